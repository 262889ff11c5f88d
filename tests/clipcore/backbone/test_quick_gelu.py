"""The activation is the one that the weights were trained with."""

import shutil
from pathlib import Path

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import QuickGELU
from torch import nn

from clipcore import backbone, backbone_names
from clipcore.backbone import Backbone
from clipcore.backbone_names import UnsupportedBackbone
from tests.worlds.clip import local_dir, open_clip_config


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
        assert backbone_names.quick_gelu_of(source, tag, open_clip_config(name)) is trained


def test_every_published_tag_of_a_quick_gelu_model_was_trained_with_it() -> None:
    """So that `resolve`, which refuses all other tags, has caught every mismatch."""
    names = [name for name in open_clip.list_models() if open_clip_config(name).get("quick_gelu")]
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
