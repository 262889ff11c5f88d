"""The features of a backbone are those of open_clip's own model."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clipcore import backbone, embedded
from clipcore.backbone import Backbone, TextTower
from clipcore.images import resize_and_crop
from tests.worlds.tensors import random_pixels

SENTENCES = ["", "a", "a photo of a cat.", "many words " * 12, "many words " * 60, "😀 ünïcode"]


EMBEDDED = f"local-dir:{embedded.path(embedded.DEFAULT)}"


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


def test_a_sha256_is_of_the_names_shapes_and_bytes(vit: Backbone) -> None:
    """The identity of a backbone must not change with the code: it is in the names of files."""
    sha = hashlib.sha256()
    for name, tensor in sorted(vit.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}torch.float32".encode() + tensor.numpy().tobytes())
    assert vit.weights_sha256() == sha.hexdigest()
