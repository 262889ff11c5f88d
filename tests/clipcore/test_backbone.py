"""Backbones: the same features as open_clip's own model, and a clear word about every other one."""

import functools
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import QuickGELU
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from clipcore import backbone, backbone_names, embedded
from clipcore.backbone import Backbone, TextTower, build_visual
from clipcore.backbone_names import (
    MissingWeights,
    UnsupportedBackbone,
    check_supported,
    read_preprocess,
)
from clipcore.images import Preprocess, fit
from tests.worlds.tensors import random_pixels

SENTENCES = ["", "a", "a photo of a cat.", "many words " * 12, "many words " * 60, "😀 ünïcode"]
EMBEDDED = f"local-dir:{embedded.path(embedded.DEFAULT)}"


@functools.cache
def quiet_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = open_clip.get_model_config(name)
    return config


# --- the features are open_clip's -----------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tiny_clip", "custom_text_clip"])
def test_cut_text_gives_the_features_of_the_full_context(
    folder: str, request: pytest.FixtureRequest
) -> None:
    """`custom_text` makes open_clip build another class, with another way to its text tower."""
    name = f"local-dir:{request.getfixturevalue(folder)}"
    model, clip = open_clip.create_model(name).eval(), backbone.load(name)
    kind = open_clip.CLIP if folder == "tiny_clip" else open_clip.CustomTextCLIP
    assert type(model) is kind
    tokens = open_clip.get_tokenizer(name)(SENTENCES)
    assert tokens.shape[1] == clip.text.context_length == 77
    assert torch.equal(clip.tokenize(SENTENCES), tokens)
    with torch.no_grad():
        expected = model.encode_text(tokens)
        torch.testing.assert_close(clip.text(tokens), expected, atol=1e-5, rtol=0)
        for row in range(len(tokens)):  # each cut to its own length
            alone = clip.text(tokens[row : row + 1])
            torch.testing.assert_close(alone, expected[row : row + 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("projection", [{"proj_bias": True}, {"proj_type": "none"}])
def test_text_projections_of_other_kinds(projection: dict[str, Any]) -> None:
    text = {"context_length": 20, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
    model = open_clip.CustomTextCLIP(32, vision, {**text, **projection}).eval()
    tokens = torch.tensor([[97, 5, 6, 98] + [0] * 16, [97, 98] + [0] * 18])
    with torch.no_grad():
        torch.testing.assert_close(
            TextTower(model)(tokens), model.encode_text(tokens), atol=1e-5, rtol=0
        )


def test_text_is_cut_to_its_longest_sentence(vit: Backbone) -> None:
    seen: list[int] = []
    vit.text.transformer.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[1])
    )
    vit.text(vit.tokenize(["a photo of a cat", "cat"]))
    assert seen == [7]


@pytest.mark.parametrize("kind", ["vit", "shipped"])
def test_image_features_are_open_clips(
    kind: str, request: pytest.FixtureRequest, tiny_clip: Path
) -> None:
    """From an image file's pixels on: open_clip's whole transform against ours."""
    clip = request.getfixturevalue(kind)
    name = f"local-dir:{tiny_clip}" if kind == "vit" else EMBEDDED
    model, _, transform = open_clip.create_model_and_transforms(name)
    images = [Image.fromarray(random_pixels(1, 150, n)[0].numpy()) for n in range(3)]
    pixels = np.stack([resize_and_crop(image, clip.visual.preprocess) for image in images])
    with torch.no_grad():
        expected = model.eval().encode_image(torch.stack([transform(image) for image in images]))
        found = clip.visual(torch.from_numpy(pixels))
    torch.testing.assert_close(found, F.normalize(expected), atol=1e-5, rtol=0)
    assert found.shape == (3, clip.embed_dim)


def test_logit_scale_is_exponentiated(vit: Backbone) -> None:
    assert vit.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)  # CLIP's initial temperature


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_loaded_backbone_is_frozen_fp32_and_in_evaluation_mode(
    kind: str, fresh: Callable[[str], Backbone]
) -> None:
    clip = fresh(kind)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in clip.parameters())
    assert not any(module.training for module in clip.modules())
    assert clip.visual.kind == kind
    assert clip.device.type == "cpu"


def test_a_shape_that_is_no_image_is_refused(vit: Backbone) -> None:
    """Shapes stand in signatures; the test suite has them checked."""
    with pytest.raises(Exception, match="pixels"):
        vit.visual(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_weights_sha256_knows_every_weight(vit: Backbone, timm: Backbone) -> None:
    before = vit.weights_sha256()
    assert len(before) == 64
    assert before != timm.weights_sha256()
    for name in ("visual.network.class_embedding", "text.ln_final.bias", "log_logit_scale"):
        weight = vit.get_parameter(name)
        original = weight.data.clone()
        weight.data += 1e-3
        assert vit.weights_sha256() != before
        weight.data = original
    assert vit.weights_sha256() == before


# --- weights in a folder --------------------------------------------------------------------------


def local_dir(tmp_path: Path, source: Path, **config: Any) -> Path:
    """Copy a model's folder without its weights, with changes to its configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    description = json.loads((source / "open_clip_config.json").read_text())
    description["model_cfg"] |= config
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth"])
def test_torch_files_of_plain_tensors_are_read(tmp_path: Path, tiny_clip: Path, name: str) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), folder / name)
    loaded = backbone.load(f"local-dir:{folder}")
    assert loaded.weights_sha256() == backbone.load(f"local-dir:{tiny_clip}").weights_sha256()


class Payload:
    """What a hostile file holds: unpickling it leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("protocol", ["torch", "bare pickle", "legacy torch"])
@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"])
def test_a_pickle_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, tiny_clip: Path, name: str, protocol: str
) -> None:
    folder, proof = local_dir(tmp_path, tiny_clip), tmp_path / "it-ran"
    state = {**load_file(tiny_clip / "open_clip_model.safetensors"), "payload": Payload(proof)}
    if protocol == "bare pickle":
        (folder / name).write_bytes(pickle.dumps(state))
    else:
        torch.save(state, folder / name, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))  # noqa: S301  # the payload works
    assert proof.exists()


BROKEN: dict[str, Callable[[Path], object]] = {
    "none": lambda file: file,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1000]),
    "folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_weights_that_cannot_be_read_are_named(
    tmp_path: Path, tiny_clip: Path, damage: str
) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    file = folder / "open_clip_model.safetensors"
    if damage != "none":
        shutil.copy(tiny_clip / file.name, file)
    BROKEN[damage](file)
    with pytest.raises(MissingWeights, match=f"weights of 'local-dir:{folder}' cannot be loaded"):
        backbone.load(f"local-dir:{folder}")


def test_an_empty_torch_file_is_named(tmp_path: Path, tiny_clip: Path) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    torch.save({}, folder / "model.pth")
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")


def test_weights_of_another_model_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    folder = local_dir(tmp_path, tiny_clip, embed_dim=16)
    shutil.copy(tiny_clip / "open_clip_model.safetensors", folder)
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")


@pytest.mark.parametrize("text", ["{}", "[]", "not json", "", '{"model_cfg": {"embed_dim": 3}}'])
def test_a_broken_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(MissingWeights, match="configuration"):
        backbone.load(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local-dir:/nowhere/at/all", "the folder does not exist"),
        ("local-dir:{here}", "open_clip_config.json and weights; that file is missing"),
        ("hf-hub:nobody/nothing", "its configuration cannot be read"),
        ("ViT-B-16", "names no known weights; tags of ViT-B-16: openai"),
        ("ViT-B-16/laion", "names no known weights; tags of ViT-B-16: openai"),
        ("ViT-S-16/openai", "ViT-S-16 has no published tag"),
        ("ViT-B-16/openai", "HF_HUB_OFFLINE=1 forbids the download"),
    ],
)
def test_missing_weights_are_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=message):
        backbone.load(name.format(here=tmp_path))


@pytest.mark.parametrize("name", ["", "ResNet-50", "vit-b-16/openai", "embedded:none", "cat.jpg"])
def test_unknown_names_are_answered_with_known_ones(name: str) -> None:
    with pytest.raises(UnsupportedBackbone, match=r"unknown.*(ViT-B-16/openai|lite0-wordnet)"):
        backbone.load(name)


# --- QuickGELU ------------------------------------------------------------------------------------


def activations(clip: Backbone) -> set[type]:
    """Return the activations of both towers."""
    return {type(module) for module in clip.modules() if "GELU" in type(module).__name__}


def test_published_weights_decide_the_activation_of_a_plain_name() -> None:
    for name, tag, trained in [
        ("ViT-B-16", "openai", True),
        ("ViT-B-16", "dfn2b", True),
        ("ViT-B-16", "laion2b_s34b_b88k", False),
        ("ViT-B-16-quickgelu", "openai", True),
    ]:
        source, found = backbone_names.resolve(f"{name}/{tag}")
        assert (source, found) == (name, tag)
        assert backbone_names.quick_gelu_of(source, tag, quiet_config(name)) is trained


def test_every_published_tag_of_a_quick_gelu_model_was_trained_with_it() -> None:
    """So that `resolve`, which refuses all other tags, has caught every mismatch."""
    names = [name for name in open_clip.list_models() if quiet_config(name).get("quick_gelu")]
    supported = [name for name in names if name.startswith("ViT") and "worldwide" not in name]
    pairs = [(name, tag) for name in supported for tag in list_pretrained_tags_by_model(name)]
    assert len(pairs) > 10
    assert all(get_pretrained_cfg(*pair)["quick_gelu"] for pair in pairs)


@pytest.mark.parametrize("tag", ["laion2b_s34b_b88k", "datacomp_xl_s13b_b90k"])
def test_quick_gelu_on_weights_trained_without_is_refused(tag: str) -> None:
    with pytest.raises(UnsupportedBackbone, match=f"QuickGELU.*Use 'ViT-B-16/{tag}'"):
        backbone.load(f"ViT-B-16-quickgelu/{tag}")


@pytest.mark.parametrize("expected", [QuickGELU, nn.GELU])
def test_a_folders_configuration_decides_the_activation(
    tmp_path: Path, tiny_clip: Path, expected: type
) -> None:
    folder = local_dir(tmp_path, tiny_clip, quick_gelu=expected is QuickGELU)
    shutil.copy(tiny_clip / "open_clip_model.safetensors", folder)
    clip = backbone.load(f"local-dir:{folder}")
    assert activations(clip) == {expected}
    assert clip.config["quick_gelu"] is (expected is QuickGELU)


# --- every model that open_clip knows -------------------------------------------------------------


@functools.cache
def built_on_no_memory(config: str) -> nn.Module:
    """Build a visual tower on the meta device: shapes without numbers, at no cost in memory."""
    half = (0.5, 0.5, 0.5)
    with torch.device("meta"):
        return build_visual(json.loads(config), Preprocess(224, half, half)).eval()


@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_model_of_open_clip_is_built_or_refused_with_an_alternative(name: str) -> None:
    config = quiet_config(name)
    try:
        check_supported(config, name)
    except UnsupportedBackbone as error:
        message = str(error)
        assert f"'{name}' is not supported: it" in message
        assert "Use a ViT such as ViT-B-16/openai, or 'embedded'." in message
        return
    vision = {**config["vision_cfg"], "image_size": 224}
    if not vision.get("timm_model_name"):
        vision["layers"] = 1
    description = {"embed_dim": config["embed_dim"], "vision_cfg": vision}
    tower = built_on_no_memory(json.dumps(description))
    assert tower.kind == ("timm" if vision.get("timm_model_name") else "vit")
    assert tower.dim == config["embed_dim"]


def described(name: str, folder: Path) -> Path:
    """Write the configuration of one of open_clip's models into a folder, without weights."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": quiet_config(name)}))
    return folder


FAMILIES = [
    "convnext_tiny", "EVA02-B-16", "MobileCLIP-B", "PE-Core-T-16-384", "ViT-B-32", "ViT-M-16-alt",
    "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256", "ViTamin-S",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_one_model_of_each_family_gives_features_of_its_dimension(name: str) -> None:
    config = quiet_config(name)
    check_supported(config, name)
    size = config["vision_cfg"]["image_size"]
    half = (0.5, 0.5, 0.5)
    with torch.device("meta"), torch.no_grad():
        tower = build_visual(config, Preprocess(size, half, half)).eval()
        pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        assert tower(pixels).shape == (1, config["embed_dim"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ViT-B-16-SigLIP", "tokenizer is not CLIP's"),
        ("ViT-B-16-SigLIP2", "tokenizer is not CLIP's"),
        ("ViT-H-14-CLIPA", "tokenizer is not CLIP's"),
        ("ViT-H-14-worldwide", "tokenizer is not CLIP's"),
        ("coca_ViT-B-32", "CoCa"),
        ("coca_roberta-ViT-B-32", "Hugging Face transformers"),
        ("roberta-ViT-B-32", "Hugging Face transformers"),
        ("nllb-clip-base", "Hugging Face transformers"),
        ("RN50", "ResNet"),
        ("RN50x4-quickgelu", "ResNet"),
        ("MobileCLIP-S1", "no causal mask"),
    ],
)
def test_refusals_say_why(name: str, reason: str, tmp_path: Path) -> None:
    tags = list_pretrained_tags_by_model(name)
    with pytest.raises(UnsupportedBackbone, match=f"{reason}.*Use a ViT"):
        backbone.load(f"{name}/{tags[0]}" if tags else f"local-dir:{described(name, tmp_path)}")


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("text_cfg", {"pool_type": "last"}, "not read at the end-of-text token"),
        ("text_cfg", {"embed_cls": True}, "appends a class token"),
        ("text_cfg", {"no_causal_mask": True}, "no causal mask"),
        ("vision_cfg", {"pool_type": "avg"}, "does not pool at the class token"),
        ("vision_cfg", {"attentional_pool": True}, "does not pool at the class token"),
    ],
)
def test_refusals_for_configurations_of_ones_own(
    part: str, change: dict[str, Any], reason: str
) -> None:
    config = {key: dict(quiet_config("ViT-B-32")[key]) for key in ("vision_cfg", "text_cfg")}
    check_supported(config, "mine")
    config[part] |= change
    with pytest.raises(UnsupportedBackbone, match=f"'mine' is not supported: .*{reason}"):
        check_supported(config, "mine")


def test_preprocessing_of_every_published_model_is_read() -> None:
    for name in open_clip.list_models():
        config = quiet_config(name)
        try:
            check_supported(config, name)
        except UnsupportedBackbone:
            continue
        for tag in list_pretrained_tags_by_model(name):
            published = get_pretrained_cfg(name, tag)
            values = open_clip.transform.merge_preprocess_dict(
                open_clip.transform.PreprocessCfg(size=config["vision_cfg"]["image_size"]),
                published,
            )
            found = read_preprocess(values)
            assert found.mean == tuple(published["mean"])
            assert found.resize_mode == (published.get("resize_mode") or "shortest")
            assert found.interpolation == (published.get("interpolation") or "bicubic")


@pytest.mark.parametrize(
    "change", [{"resize_mode": "longest"}, {"interpolation": "nearest"}, {"size": (224, 112)}]
)
def test_preprocessing_that_would_be_done_wrongly_is_refused(change: dict[str, Any]) -> None:
    values = {"size": 224, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), **change}
    with pytest.raises(UnsupportedBackbone, match=r"Preprocessing is not supported.*ViT-B-16"):
        read_preprocess(values)


def test_a_sha256_is_of_the_names_shapes_and_bytes(vit: Backbone) -> None:
    """The identity of a backbone must not change with the code: it is in the names of files."""
    sha = hashlib.sha256()
    for name, tensor in sorted(vit.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}torch.float32".encode() + tensor.numpy().tobytes())
    assert vit.weights_sha256() == sha.hexdigest()
