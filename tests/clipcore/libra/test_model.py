"""Libra: what text, images and both together depend on, and what they do not, whatever learned."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipcore.libra.language import Language, causal
from clipcore.libra.model import LANGUAGE, Libra, Route
from clipcore.libra.words import BEGIN, BOOKS, END, VOCABULARY, WORDS
from tests.worlds.libra import (
    DIM,
    FULL_RANK,
    NEEDS_LLM,
    changed,
    laid_out,
    new_libra,
    tiny_language,
)
from tests.worlds.tensors import draws, same, snapshot

TEXT = "tttttttttt"
LAYOUTS = {
    "prefix": "[vvv]ttttt",
    "suffix": "ttttt[vvv]",
    "middle": "tt[vvv]ttt",
    "alternating": "tvtvtvtvtv",
    "all": "[vvvvvvvv]",
    "none": TEXT,
}
MIXED = [layout for name, layout in LAYOUTS.items() if name not in ("all", "none")]


@pytest.fixture
def model(language: Language) -> Libra:
    """Return a vision system that has learned something, bridge and all."""
    return changed(new_libra(language))


def flags(*rows: str) -> Tensor:
    return laid_out(*rows).is_vision


def run_layers(model: Libra, x: Tensor, is_vision: Tensor) -> Tensor:
    positions = torch.arange(x.shape[1])[None]
    with torch.no_grad():
        return model.read(x, is_vision, positions)


def states_of(model: Libra, *rows: str) -> Tensor:
    with torch.no_grad():
        states: Tensor = model(laid_out(*rows))
    return states


# --- text alone is the language model's -----------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_alone_has_the_language_models_logits_bit_for_bit(
    first: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    language = tiny_language(tmp_path)
    model = changed(new_libra(language, first=first)).to(dtype)
    sequences = laid_out(TEXT, TEXT)
    with torch.no_grad():
        assert torch.equal(model.text_logits(model(sequences)), language(sequences.ids))


@pytest.mark.parametrize("design", [{"expert": False}, {"bridge": False}, {"start": "normal"}])
def test_so_it_is_in_every_design(design: dict[str, object], language: Language) -> None:
    model = changed(new_libra(language, **design))
    sequences = laid_out(TEXT)
    with torch.no_grad():
        assert torch.equal(model.text_logits(model(sequences)), language(sequences.ids))


def test_a_text_beside_others_with_images_is_itself(model: Libra, language: Language) -> None:
    sequences = laid_out(TEXT, LAYOUTS["middle"])
    with torch.no_grad():
        found = model.text_logits(model(sequences))[:1]
        expected = language(sequences.ids[:1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# --- copies of the language model's weights are the language model --------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("first", [0, 1])
def test_copies_with_a_zero_bridge_are_the_language_model(
    name: str, first: int, language: Language
) -> None:
    """The last norm of images starts at one, so it is copied too."""
    model = new_libra(language, first=first, rank=FULL_RANK)
    with torch.no_grad():
        model.last_norm.weight.copy_(language.norm.weight)
    ids = torch.randint(280, (2, 10), generator=draws(3))
    positions = torch.arange(10)[None]
    x = model.text_states(ids, positions)
    found = run_layers(model, x, flags(LAYOUTS[name]).expand(2, -1))
    expected = language.norm(language.run(x, range(first, 2), positions))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_rows_of_a_batch_may_differ_in_layout(model: Libra) -> None:
    rows = list(LAYOUTS.values())
    whole = laid_out(*rows)
    with torch.no_grad():
        states = model(whole)
        for row in range(len(rows)):
            alone = replace(
                whole,
                **{
                    name: getattr(whole, name)[row : row + 1]
                    for name in ("ids", "is_vision", "words", "signals")
                },
            )
            torch.testing.assert_close(model(alone)[0], states[row], atol=1e-5, rtol=0)


def test_without_an_expert_images_go_through_the_language_models_weights(
    language: Language,
) -> None:
    shared = new_libra(language, expert=False, bridge=False)
    copied = new_libra(language, rank=FULL_RANK, bridge=False)
    x = torch.randn(1, 10, 32, generator=draws(4))
    is_vision = flags(LAYOUTS["middle"])
    torch.testing.assert_close(
        run_layers(shared, x, is_vision), run_layers(copied, x, is_vision), atol=1e-5, rtol=0
    )
    assert all(mixed.expert is None and mixed.bridge is None for mixed in shared.layers)


# --- the bridge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all", "none"])
def test_a_bridge_changes_nothing_where_there_is_one_kind(name: str, language: Language) -> None:
    model = changed(new_libra(language), "expert")
    before = states_of(model, LAYOUTS[name])
    changed(model, "bridge")
    assert torch.equal(states_of(model, LAYOUTS[name]), before)


@pytest.mark.parametrize("layout", MIXED)
def test_a_bridge_changes_what_reads_the_other_kind(layout: str, language: Language) -> None:
    model = changed(new_libra(language), "expert")
    before = states_of(model, layout)
    changed(model, "bridge")
    after = states_of(model, layout)
    (is_vision,) = flags(layout).tolist()
    start = is_vision.index(not is_vision[0])  # before it is nothing of the other kind
    assert torch.equal(after[:, :start], before[:, :start])
    assert not torch.isclose(after[:, start:], before[:, start:]).all(dim=-1).any()


@pytest.mark.parametrize(
    ("kind", "layout", "inert"),
    [
        ("language", LAYOUTS["prefix"], True),
        ("vision", LAYOUTS["prefix"], False),
        ("language", LAYOUTS["suffix"], False),
        ("vision", LAYOUTS["suffix"], True),
        ("language", LAYOUTS["middle"], False),
        ("vision", LAYOUTS["middle"], False),
    ],
)
def test_maps_on_keys_that_the_other_kind_never_reads_are_inert(
    kind: str, layout: str, inert: object, language: Language
) -> None:
    """When the image comes first, no image token reads a text: maps on text keys do nothing."""
    model = changed(new_libra(language))
    before = states_of(model, layout)
    for part in ("k", "v"):
        changed(model, f"{part}_{kind}")
        assert torch.equal(states_of(model, layout), before) is inert


# --- earlier tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 4, 9])
@pytest.mark.parametrize("name", LAYOUTS)
def test_one_flag_flipped_leaves_all_tokens_before_it(name: str, place: int, model: Libra) -> None:
    """Nothing else is changed: the layers are entered with the same embeddings.

    Equal but for rounding, since each kind has one row more or less in its matrix products.
    """
    x = torch.randn(1, 10, 32, generator=draws(6))
    is_vision = flags(LAYOUTS[name])
    flipped = is_vision.clone()
    flipped[0, place] = ~flipped[0, place]
    one, two = run_layers(model, x, is_vision), run_layers(model, x, flipped)
    torch.testing.assert_close(one[:, :place], two[:, :place], atol=1e-5, rtol=0)
    assert not torch.isclose(one[:, place], two[:, place], atol=1e-3).all()


@pytest.mark.parametrize(("layout", "place"), [(MIXED[0], 4), (MIXED[2], 3), (MIXED[3], 3)])
def test_two_flags_that_change_places_leave_all_tokens_before_them_bit_for_bit(
    layout: str, place: int, model: Libra
) -> None:
    """An image token and a text token behind it."""
    last = layout.rindex("t")
    x = torch.randn(1, 10, 32, generator=draws(6))
    is_vision = flags(layout)
    swapped = is_vision.clone()
    swapped[0, place], swapped[0, last] = False, True
    assert int(swapped.sum()) == int(is_vision.sum())
    one, two = run_layers(model, x, is_vision), run_layers(model, x, swapped)
    assert torch.equal(one[:, :place], two[:, :place])
    assert not torch.isclose(one[:, place], two[:, place], atol=1e-3).all()


@pytest.mark.parametrize("layout", MIXED)
@pytest.mark.parametrize("first", [0, 1])
def test_no_token_sees_what_comes_later(layout: str, first: int, language: Language) -> None:
    model = changed(new_libra(language, first=first))
    sequences = laid_out(layout)
    with torch.no_grad():
        before = model(sequences)
        for place in range(1, 10):
            later = laid_out(layout, seed=1)
            mixed = replace(
                sequences,
                **{
                    name: torch.cat(
                        [getattr(sequences, name)[:, :place], getattr(later, name)[:, place:]],
                        dim=1,
                    )
                    for name in ("ids", "words", "signals")
                },
            )
            after = model(mixed)
            assert torch.equal(after[:, :place], before[:, :place])
            if layout[place] not in "[]":  # these are always the same
                assert not torch.isclose(after[:, place], before[:, place], atol=1e-3).all()


def test_below_the_first_mixed_layer_texts_do_not_see_images(language: Language) -> None:
    model = changed(new_libra(language, first=1))
    sequences = laid_out(LAYOUTS["middle"])
    text = ~sequences.is_vision[0]
    places = torch.arange(10)[None, text]
    alone = model.text_states(sequences.ids[:, text], places)
    itself = torch.eye(10, dtype=torch.bool)
    visible = causal(10, 10, device=torch.device("cpu")) & text | itself
    among = model.text_states(sequences.ids, torch.arange(10)[None], visible=visible)
    torch.testing.assert_close(among[:, text], alone, atol=1e-6, rtol=0)


# --- embeddings and heads -------------------------------------------------------------------------


def test_an_image_token_is_its_words_and_its_feature(model: Libra) -> None:
    words = torch.tensor([[3, 500], [BEGIN, BEGIN], [END, END], [3, 500]])
    signals = torch.randn(4, DIM, generator=draws(7))
    signals[3] = 0  # a position that is being drawn
    with torch.no_grad():
        model.words.standardise(signals)
        found = model.embed_vision(words, signals)
        for row in range(4):
            one, two = (
                book.weight[words[row, number]] for number, book in enumerate(model.embeddings)
            )
            own = model.words.standardised(signals[row]) if row == 0 else torch.zeros(DIM)
            joined = torch.cat([one, two, own])
            scaled = joined / (joined.square().mean() + 1e-5).sqrt() * model.norm.weight
            torch.testing.assert_close(found[row], model.project.weight @ scaled)


def test_there_is_a_head_for_each_book_and_the_text_head_is_the_language_models(
    model: Libra, language: Language
) -> None:
    states = torch.randn(3, 32, generator=draws(8))
    logits = model.word_logits(states)
    assert logits.shape == (3, BOOKS, VOCABULARY)
    assert VOCABULARY == WORDS + 2
    for book, head in enumerate(model.heads):
        assert isinstance(head, torch.nn.Linear)
        assert torch.equal(logits[:, book], head(states))
    assert torch.equal(model.text_logits(states), language.lm_head(states))


# --- what learns and what is kept -----------------------------------------------------------------


def test_what_learns_is_all_but_the_language_model_and_the_words(model: Libra) -> None:
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert {name.partition(".")[0] for name in frozen} == {"language", "words"}
    names = {name.partition(".")[0] for name, one in model.named_parameters() if one.requires_grad}
    assert names == {"embeddings", "norm", "project", "layers", "last_norm", "heads"}
    assert len(model.vision()) == len(list(model.parameters())) - len(frozen)


@pytest.mark.parametrize("first", [0, 1])
def test_what_was_learned_is_put_back(first: int, language: Language) -> None:
    model = changed(new_libra(language, first=first))
    tensors = snapshot(model.tensors())
    assert not any(name.startswith(LANGUAGE) for name in tensors)
    assert {"words.mean", "words.scale"} <= set(tensors)
    other = new_libra(language, first=first, seed=5)
    before = states_of(other, LAYOUTS["middle"])
    other.restore(tensors)
    assert same(other.tensors(), tensors)
    after = states_of(other, LAYOUTS["middle"])
    assert torch.equal(after, states_of(model, LAYOUTS["middle"]))
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors.pop("heads.0.weight"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"norm.weight": torch.zeros(3)}),
    ],
)
def test_tensors_of_another_design_are_refused(
    spoil: Callable[[dict[str, Tensor]], object], model: Libra
) -> None:
    tensors = model.tensors()
    spoil(tensors)
    with pytest.raises(RuntimeError):
        model.restore(tensors)


def test_a_start_follows_from_its_seed(language: Language) -> None:
    torch.rand(3)
    starts = [new_libra(language, seed=seed).tensors() for seed in (0, 0, 1)]
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])


def test_tokens_are_routed_and_find_back() -> None:
    for rows in itertools.combinations(LAYOUTS.values(), 2):
        is_vision = flags(*rows)
        route = Route(is_vision)
        x = torch.randn(2, 10, 3, generator=draws(9))
        text, image = route.split(x)
        assert torch.equal(text, x[~is_vision])
        assert torch.equal(image, x[is_vision])
        assert torch.equal(route.join(text, image), x)


class TestSmolLM2:
    pytestmark = NEEDS_LLM

    @pytest.mark.parametrize("first", [24, 29])
    def test_text_alone_has_its_logits_bit_for_bit(
        self, first: int, smol_language: Language
    ) -> None:
        model = changed(new_libra(smol_language, first=first), by=0.05)
        ids = torch.randint(49_000, (2, 12), generator=draws(1))
        none = torch.zeros_like(ids)
        sequences = replace(
            laid_out(TEXT), ids=ids, is_vision=none > 0,
            words=none[..., None].expand(-1, -1, BOOKS), signals=torch.zeros(2, 12, DIM),
        )  # fmt: skip
        with torch.inference_mode():
            assert torch.equal(model.text_logits(model(sequences)), smol_language(ids))
