"""What is read from open_clip's files is what open_clip itself says."""

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from clipcore import published


def test_models_and_their_configurations() -> None:
    assert published.model_names() == set(open_clip.list_models())
    for name in open_clip.list_models():
        assert published.model_config(name) == open_clip.get_model_config(name)
    assert published.model_config("no-such-model") is None


def test_weights_of_every_model() -> None:
    total = 0
    for name in open_clip.list_models():
        tags = list_pretrained_tags_by_model(name)
        total += len(tags)
        assert list(published.tags_of(name)) == tags
        for tag in tags:
            ours, theirs = published.weights_of(name, tag), get_pretrained_cfg(name, tag)
            assert ours["quick_gelu"] == bool(theirs.get("quick_gelu", False))
            assert ours["hf_hub"] == theirs["hf_hub"]
    assert total > 100


def test_tags_are_found_as_open_clip_finds_them() -> None:
    assert published.weights_of("ViT-B-32", "LAION2B-s34b-b79k")["hf_hub"]
    assert published.weights_of("ViT-B-32", "nothing") == {}
    assert published.weights_of("nothing", "openai") == {}
