"""Zero-shot classification, against open_clip's own classifier."""

from pathlib import Path

import open_clip
import pytest
import torch

from clipcore.backbone import Backbone
from clipcore.zero_shot import TEXTS_PER_PASS, class_embeddings, sentence_embeddings

CLASSES = ["cat", "hot dog", "sea lion", "seven"]
TEMPLATES = ["a photo of a {}.", "a drawing of the {}, seen from far away.", "{}"]


@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[:1]])
def test_class_embeddings_are_open_clips_classifier(
    vit: Backbone, tiny_clip: Path, templates: list[str]
) -> None:
    model = open_clip.create_model(f"local-dir:{tiny_clip}").eval()
    expected = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer(f"local-dir:{tiny_clip}"), CLASSES, templates
    ).T
    torch.testing.assert_close(
        class_embeddings(vit, CLASSES, templates), expected, atol=1e-5, rtol=0
    )


def test_underscores_are_spaces(vit: Backbone) -> None:
    one, two = class_embeddings(vit, ["hot_dog", "hot dog"], TEMPLATES)
    assert torch.equal(one, two)


def test_more_texts_than_one_pass_takes(vit: Backbone) -> None:
    """Passes are cut to their own longest text; a name must not notice its neighbours."""
    names = [f"{'very ' * (n % 9)}kind {n}" for n in range(TEXTS_PER_PASS)]
    together = class_embeddings(vit, names, TEMPLATES[:2])
    picked = [0, 8, 127, 128, 255]
    alone = torch.cat([class_embeddings(vit, [names[n]], TEMPLATES[:2]) for n in picked])
    torch.testing.assert_close(together[picked], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(TEXTS_PER_PASS))


def test_classes_may_have_different_numbers_of_sentences(vit: Backbone) -> None:
    sentences = [["a cat."], ["a sea lion.", "a photo of a sea lion.", "an animal."]]
    one, two = sentence_embeddings(vit, sentences)
    single = class_embeddings(vit, sentences[1], ["{}"])
    torch.testing.assert_close(two, torch.nn.functional.normalize(single.mean(dim=0), dim=0))
    torch.testing.assert_close(one, class_embeddings(vit, ["cat"], ["a {}."])[0])
