"""Every model that open_clip knows is built, or refused with an alternative."""

import functools
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import nn

from clipcore import backbone
from clipcore.backbone import Backbone, build_visual
from clipcore.backbone_names import UnsupportedBackbone, check_supported, read_preprocess
from clipcore.images import Preprocess
from tests.worlds.clip import open_clip_config
from tests.worlds.tensors import same, snapshot


@functools.cache
def built_on_no_memory(config: str) -> nn.Module:
    """Build a visual tower on the meta device: shapes without numbers, at no cost in memory."""
    half = (0.5, 0.5, 0.5)
    with torch.device("meta"):
        return build_visual(json.loads(config), Preprocess(224, half, half)).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_model_of_open_clip_is_built_or_refused_with_an_alternative(name: str) -> None:
    config = open_clip_config(name)
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
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip_config(name)}))
    return folder


FAMILIES = [
    "convnext_tiny", "EVA02-B-16", "MobileCLIP-B", "PE-Core-T-16-384", "ViT-B-32", "ViT-M-16-alt",
    "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256", "ViTamin-S",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_one_model_of_each_family_gives_features_of_its_dimension(name: str) -> None:
    config = open_clip_config(name)
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
    config = {key: dict(open_clip_config("ViT-B-32")[key]) for key in ("vision_cfg", "text_cfg")}
    check_supported(config, "mine")
    config[part] |= change
    with pytest.raises(UnsupportedBackbone, match=f"'mine' is not supported: .*{reason}"):
        check_supported(config, "mine")


def test_preprocessing_of_every_published_model_is_read() -> None:
    for name in open_clip.list_models():
        config = open_clip_config(name)
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


@pytest.mark.parametrize("text", [False, True])
def test_a_copy_has_a_visual_tower_of_its_own_and_a_text_tower_if_asked(
    text: bool,  # noqa: FBT001
    loaded_vit: Backbone,
) -> None:
    before = snapshot(loaded_vit.state_dict())
    own = loaded_vit.own_copy(text=text)
    assert same(own.state_dict(), before)
    assert (own.text is loaded_vit.text) != text
    with torch.no_grad():
        for parameter in own.visual.parameters() if not text else own.parameters():
            parameter.add_(1)
    assert same(loaded_vit.state_dict(), before)
    assert torch.equal(own.tokenize(["a cat"]), loaded_vit.tokenize(["a cat"]))
