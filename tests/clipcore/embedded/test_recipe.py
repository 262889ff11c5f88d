"""Glyph: the recipe on a few steps, and the weights that are shipped."""

import json
import math
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor

from clipcore import embedded
from clipcore.embedded.recipe import training
from clipcore.embedded.recipe.captions import (
    CHARACTERS,
    TEMPLATES,
    character_name,
    tokenize_captions,
)
from clipcore.embedded.recipe.render import degrade, font_paths, render_characters, to_pixels

pytestmark = pytest.mark.slow  # it trains and draws thousands of characters

GLYPH = Path(embedded.__file__).parent / "glyph"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def glyphs() -> Tensor:
    return render_characters()


def test_every_font_draws_every_character(glyphs: Tensor) -> None:
    assert glyphs.shape == (len(font_paths()), 62, 48, 48)
    assert len(font_paths()) >= 20
    assert glyphs.amax(dim=(2, 3)).min() > 0.9
    assert glyphs.mean(dim=(2, 3)).min() > 0.05


def test_characters_of_a_font_differ(glyphs: Tensor) -> None:
    """A font without a character draws its box for missing ones, equal for all."""
    for font in glyphs:
        assert len({character.numpy().tobytes() for character in font}) == 62


def test_symbol_fonts_are_left_out() -> None:
    names = {path.stem for path in font_paths()}
    assert "DejaVuSans" in names
    assert not names & {"cmex10", "cmsy10", "LastResortHE-Regular", "STIXSizOneSymReg"}


def test_ink_fills_the_canvas(glyphs: Tensor) -> None:
    for glyph in glyphs.flatten(0, 1):
        rows, columns = (glyph > 0.02).nonzero(as_tuple=True)
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) >= 45


def test_degraded_characters_look_like_the_scans(glyphs: Tensor) -> None:
    rng = torch.Generator().manual_seed(0)
    levels = degrade(glyphs[:, :10].flatten(0, 1), rng)
    assert levels.shape[1:] == (8, 8)
    assert set(levels.unique().tolist()) == set(range(17))
    assert (levels.amax(dim=(1, 2)) >= 6).all()  # no character is lost
    corners = levels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() < levels.mean()  # light on dark


def test_degrading_is_a_function_of_the_generator(glyphs: Tensor) -> None:
    first, second = (degrade(glyphs[0], torch.Generator().manual_seed(3)) for _ in range(2))
    other = degrade(glyphs[0], torch.Generator().manual_seed(4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_pixels_are_what_the_preprocessing_makes(glyphs: Tensor) -> None:
    """Training sees what the shipped configuration does to a PNG, to half a grey level of 255.

    It is more at a few sharp corners, where Pillow clips between its two passes.
    """
    levels = degrade(glyphs[:, :10].flatten(0, 1), torch.Generator().manual_seed(0))
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{GLYPH}")
    images = [Image.fromarray((x * 255 / 16).round().byte().numpy()) for x in levels]
    expected = torch.stack([preprocess(image) for image in images])
    difference = (to_pixels(levels) - expected).abs() * 127.5
    assert difference.mean() < 0.6
    assert (difference > 3).float().mean() < 0.04
    assert difference.max() < 30


def test_names_of_characters() -> None:
    assert [character_name(c) for c in "7aA"] == ["digit seven", "letter a", "capital letter a"]
    assert len({character_name(c) for c in CHARACTERS}) == 62


def test_captions_put_names_at_every_place_up_to_a_learned_prompts() -> None:
    """A learned prompt is start, 16 context tokens, the name, end."""
    captions = tokenize_captions(32)
    assert captions.shape == (len(TEMPLATES), 62, 32)
    assert (captions.amax(dim=2) == 49407).all()  # nothing is cut: the end token is there
    ends = captions.argmax(dim=2)
    assert ends.max() > 1 + 16 + 3
    assert set(range(ends.max())) <= set((captions != 0).nonzero()[:, 2].tolist())


def test_loss_is_its_equation() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = [0, 2, 0, 1, 1, 0]
    s = logits.exp()
    terms = [
        -torch.log(s[i, y] / s[i].sum()) - torch.log(s[i, y] / s[:, y].sum())
        for i, y in enumerate(labels)
    ]
    expected = sum(terms) / (2 * len(labels))
    torch.testing.assert_close(training.contrastive_loss(logits, torch.tensor(labels)), expected)


def test_loss_is_clips_where_captions_are_distinct() -> None:
    features = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    images, texts = F.normalize(features, dim=-1)
    expected = open_clip.ClipLoss()(images, texts, torch.tensor(10.0))
    loss = training.contrastive_loss(10 * images @ texts.T, torch.arange(5))
    torch.testing.assert_close(loss, expected)


@pytest.mark.slow
def test_training_repeats_bit_for_bit() -> None:
    first = training.train(1, steps=3, batch_size=16)
    torch.rand(3)  # the global generator has no say
    again = training.train(1, steps=3, batch_size=16)
    other = training.train(2, steps=3, batch_size=16)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])


@pytest.mark.slow
def test_steps_teach_both_towers_to_agree(glyphs: Tensor) -> None:
    """Ten digits of one font, learned by heart: far below what guessing gives."""
    rng = torch.Generator().manual_seed(0)
    used, captions = tokenize_captions(32).unique(return_inverse=True)
    model = training._build(len(used), rng)
    optimizer = torch.optim.AdamW(model.parameters(), training.LEARNING_RATE)
    pixels, labels = to_pixels(degrade(glyphs[0, :10], rng)), torch.arange(10)
    for _ in range(60):
        loss = training._loss_of_batch(model, pixels, labels, captions[2, :10])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * math.log(10)


def test_weights_are_small_and_half_precision() -> None:
    sizes = [path.stat().st_size for path in GLYPH.iterdir()]
    assert sum(sizes) <= 10e6
    weights = load_file(GLYPH / "open_clip_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_configuration_is_the_recipes() -> None:
    config = json.loads((GLYPH / "open_clip_config.json").read_text())
    assert config == {"model_cfg": training.MODEL_CFG, "preprocess_cfg": training.PREPROCESS_CFG}


def test_tokens_that_captions_never_use_are_zero_and_the_others_are_not() -> None:
    rows = _model().token_embedding.weight.abs().sum(dim=1)
    used = torch.zeros(49408, dtype=torch.bool)
    used[tokenize_captions(32).unique()] = True
    assert torch.equal(rows > 0, used)


def test_logit_scale_is_sane() -> None:
    assert 5 < _model().logit_scale.exp() < 50.1


def test_shipped_weights_read_handwriting_without_having_seen_it() -> None:
    """The number of the weights' README, measured again."""
    digits = load_digits()
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{GLYPH}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{GLYPH}")
    images = [Image.fromarray((x * 255 / 16).round().astype(np.uint8)) for x in digits.images]
    with torch.inference_mode():
        classes = model.encode_text(
            tokenizer([f"a photo of the digit {word}." for word in WORDS]), normalize=True
        )
        features = model.encode_image(torch.stack([preprocess(x) for x in images]), normalize=True)
    accuracy = ((features @ classes.T).argmax(dim=1).numpy() == digits.target).mean()
    stated = re.search(r"all 1,797 \| ([0-9.]+) \|", (GLYPH / "README.md").read_text())
    assert stated is not None
    assert accuracy > 0.4
    assert accuracy == pytest.approx(float(stated[1]), abs=0.005)


def test_unknown_embedded_name_says_what_there_is() -> None:
    with pytest.raises(embedded.UnknownEmbeddedBackbone, match=r"'nothing'.*glyph"):
        embedded.path("nothing")


def test_embedded_path_is_a_folder_that_open_clip_reads() -> None:
    assert embedded.path("glyph") == GLYPH
    assert (GLYPH / "open_clip_model.safetensors").is_file()


def _model() -> open_clip.CLIP:
    return open_clip.create_model(f"local-dir:{GLYPH}")
