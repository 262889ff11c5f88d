"""Learning: which tokens are targets, what a step changes, and what it never does."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipcore import precision
from clipcore.fit import Schedule, TrainingDiverged, TrainingSet, fit, loader
from clipcore.libra.captions import Captions
from clipcore.libra.fit import (
    CaptionData,
    Layout,
    caption_loss,
    fit_words,
    image_words,
    losses,
    new_optimizer,
    padded,
    positions_of,
)
from clipcore.libra.language import Language
from clipcore.libra.model import Libra, Sequences
from clipcore.libra.words import BEGIN, BOOKS, END, WordLoss, Words
from tests.worlds.libra import (
    DIM,
    POSITIONS,
    beside,
    captions,
    changed,
    features,
    laid_out,
    new_libra,
    tiny_language,
)
from tests.worlds.tensors import draws, same, snapshot

IMAGES = 6
CLASSES_OF = torch.arange(IMAGES) % 3
START = (256,)
TEXT_FIRST = Layout(image_first=False)


@pytest.fixture
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: False)


def train(
    model: Libra, *layouts: Layout, steps: int = 3, share: float = 0.5, rate: float = 1e-2
) -> list[dict[str, float]]:
    """Train on six images; every step is an epoch."""
    data = [CaptionData(model, captions(), layout) for layout in layouts or (Layout(),)]
    schedule = Schedule(epochs=steps, batch_size=IMAGES, seed=0, stream="libra")
    training = TrainingSet(CLASSES_OF, loader(features(IMAGES).__getitem__))
    optimizer = new_optimizer(model, learning_rate=rate, weight_decay=0.01)
    loss = caption_loss(model, data, share)
    return list(fit(optimizer, loss, training, schedule, epochs=range(steps)))


# --- targets --------------------------------------------------------------------------------------


TARGETS = {  # under each token whether it is somebody's target
    "tt[vv]ttt": ".t.vv].tt",
    "[vv]tttt.": ".vv].ttt.",
    "[vv][v]tt": ".vv].v].t",
    "tttt[vvv]": ".ttt.vvv]",
    "t[v]t[v]t": "..v]..v].",
    "[v][v][v]": ".v].v].v]",
    "ttttttttt": ".tttttttt",
    "vvvvv]ttt": ".vvvv].tt",
}


def targets_of(layout: str) -> tuple[Sequences, Tensor]:
    """Return a sequence and which text is learned; `.` is padding."""
    return laid_out(layout.replace(".", "t")), torch.tensor([[one == "t" for one in layout]])


@pytest.mark.parametrize("layout", TARGETS)
def test_these_tokens_are_targets_and_no_others(layout: str, language: Language) -> None:
    """A token is a target where the state before it gets a gradient."""
    model, (sequences, learned) = changed(new_libra(language)), targets_of(layout)
    states = model(sequences).detach().requires_grad_()
    losses(model, states, sequences, learned)["loss"].backward()
    assert states.grad is not None
    asked = states.grad[0].abs().sum(dim=-1) > 0
    assert [False, *asked[:-1].tolist()] == [letter != "." for letter in TARGETS[layout]]
    assert not asked[-1]


def losses_with_loops(
    model: Libra, states: Tensor, sequences: Sequences, learned: Tensor
) -> dict[str, float]:
    text, vision = [], []
    for row, flags in enumerate(sequences.is_vision.tolist()):
        for place in range(1, len(flags)):
            state = states[row, place - 1]
            if not flags[place - 1] and not flags[place] and learned[row, place]:
                log_p = model.text_logits(state).log_softmax(dim=-1)
                text.append(-float(log_p[sequences.ids[row, place]]))
            if flags[place - 1] and flags[place] and sequences.words[row, place, 0] != BEGIN:
                for book in range(BOOKS):
                    log_p = model.word_logits(state)[book].log_softmax(dim=-1)
                    vision.append(-float(log_p[sequences.words[row, place, book]]))
    terms = {"text": text, "vision": vision}
    means = {name: sum(all_) / len(all_) for name, all_ in terms.items() if all_}
    return {**means, "loss": sum(means.values())}


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_cross_entropies_written_out(seed: int, language: Language) -> None:
    model = changed(new_libra(language))
    rows = [layout.replace(".", "t") for layout in TARGETS]
    sequences = laid_out(*rows, seed=seed)
    learned = torch.rand(sequences.ids.shape, generator=draws(seed)) < 0.6
    with torch.no_grad():
        states = model(sequences)
        found = losses(model, states, sequences, learned)
        expected = losses_with_loops(model, states, sequences, learned)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


def test_a_kind_without_targets_has_no_term_and_none_at_all_is_an_error(language: Language) -> None:
    model = new_libra(language)
    sequences, learned = targets_of("ttttt")
    with torch.no_grad():
        states = model(sequences)
        assert set(losses(model, states, sequences, learned)) == {"text", "loss"}
        with pytest.raises(ValueError, match="a token to learn"):
            losses(model, states, sequences, ~learned)
        images, _ = targets_of("[vvv]")
        assert set(losses(model, model(images), images, learned)) == {"vision", "loss"}


# --- captions beside images -----------------------------------------------------------------------


def test_captions_are_filled_up_and_prompts_are_not_learned() -> None:
    told = captions()
    ids, learned = padded(told)
    for row, ending in enumerate(told.endings):
        whole = [*told.prompt, *ending]
        assert ids[row, : len(whole)].tolist() == whole
        assert ids[row, learned[row]].tolist() == list(ending)
        assert not ids[row, len(whole) :].any()


def test_an_image_stands_between_its_ends(language: Language) -> None:
    model = new_libra(language)
    words, signals = image_words(model, features(2))
    assert words.shape == (2, POSITIONS + 2, BOOKS)
    assert torch.equal(words[:, 1:-1], model.words(features(2)))
    assert words[:, 0].unique().tolist() == [BEGIN]
    assert words[:, -1].unique().tolist() == [END]
    assert torch.equal(signals[:, 1:-1], features(2))
    assert not signals[:, [0, -1]].any()


def caption_alone(
    model: Libra, layout: Layout, told: Captions, image: int
) -> tuple[Sequences, Tensor]:
    """Return one image and its caption, nothing filled up, and which tokens are learned."""
    ending = told.endings[int(CLASSES_OF[image])]
    words, signals = image_words(model, features(IMAGES)[image : image + 1])
    caption = torch.tensor([[*told.prompt, *ending]])
    if layout.image_first:
        sequences = beside(layout.start, words, signals, caption)
    else:
        none = torch.zeros(1, 0, dtype=torch.long)
        sequences = beside([*layout.start, *caption[0].tolist()], words, signals, none)
    learned = torch.zeros_like(sequences.is_vision)
    text = (~sequences.is_vision[0]).nonzero()[:, 0]
    learned[0, text[-len(ending) :]] = True
    return sequences, learned


LAYOUTS = [Layout(), Layout(START), TEXT_FIRST, Layout(START, image_first=False)]


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [0, 1])
def test_captions_read_once_and_filled_up_are_each_read_alone(
    first: int, layout: Layout, language: Language
) -> None:
    """States of texts come from the cache, and rows are of different length."""
    model, told = changed(new_libra(language, first=first)), captions()
    data = CaptionData(model, told, layout)
    terms = caption_loss(model, [data])
    sums = {"text": 0.0, "vision": 0.0}
    with torch.no_grad():
        found = terms(features(IMAGES), CLASSES_OF, draws())
        for image in range(IMAGES):
            sequences, learned = caption_alone(model, layout, told, image)
            one = losses(model, model(sequences), sequences, learned)
            sums["text"] += float(one["text"]) * int(learned.sum())
            sums["vision"] += float(one["vision"]) / IMAGES
    sums["text"] /= sum(len(told.endings[row]) for row in CLASSES_OF.tolist())
    assert float(found["text"]) == pytest.approx(sums["text"], abs=1e-6)
    assert float(found["vision"]) == pytest.approx(sums["vision"], abs=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [0, 1])
def test_states_of_captions_are_those_of_the_whole_sequence(
    first: int, layout: Layout, language: Language
) -> None:
    model, told = changed(new_libra(language, first=first)), captions()
    data = CaptionData(model, told, layout)
    for image in range(3):
        sequences, _ = caption_alone(model, layout, told, image)
        text = ~sequences.is_vision[0]
        positions = torch.arange(len(text))[None, text]
        expected = model.text_states(sequences.ids[:, text], positions)
        states = data.states[image : image + 1, : int(text.sum())]
        torch.testing.assert_close(states, expected, atol=1e-6, rtol=0)
        assert torch.equal(data.positions[:, : int(text.sum())], positions)


@pytest.mark.usefixtures("fp32")
def test_batches_are_shared_between_two_layouts(language: Language) -> None:
    model = changed(new_libra(language))
    data = [CaptionData(model, captions(), layout) for layout in (Layout(), TEXT_FIRST)]

    def drawn(*which: int, share: float = 1.0, seed: int = 0) -> float:
        with torch.no_grad():
            terms = caption_loss(model, [data[number] for number in which], share)
            return float(terms(features(IMAGES), CLASSES_OF, draws(seed))["loss"])

    first, second = drawn(0), drawn(1)
    assert first != second
    assert drawn(0, 1) == first
    assert drawn(0, 1, share=0.0) == second
    half = [drawn(0, 1, share=0.5, seed=seed) for seed in range(20)]
    assert set(half) == {first, second}


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_after_three_steps_text_is_the_language_models_bit_for_bit(
    first: int,
    fast: object,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Trained in fp32 and in bf16 arithmetic; asked with weights of either type."""
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: fast)
    language = tiny_language(tmp_path_factory.mktemp("llama"))
    model = new_libra(language, first=first)
    before, sha = snapshot(model.tensors()), language.sha256()
    train(model, Layout(), TEXT_FIRST)
    assert language.sha256() == sha
    learned = {
        name for name, value in model.tensors().items() if not torch.equal(value, before[name])
    }
    assert {name for name in before if not name.startswith("words.")} - learned == set()
    model.to(dtype)
    sequences = laid_out("ttttttttt", "ttttttttt")
    with torch.no_grad():
        assert torch.equal(model.text_logits(model(sequences)), language(sequences.ids))


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize("first", [0, 1])
def test_what_gets_a_gradient(first: int, language: Language) -> None:
    """All of the vision system, nothing of the language model.

    Of the bridge, `b` starts at zero, so that at first `a` gets a gradient of zero.
    """
    model = new_libra(language, first=first)
    data = [CaptionData(model, captions(), layout) for layout in (Layout(), TEXT_FIRST)]

    def gradients() -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        for one in data:
            caption_loss(model, [one])(features(IMAGES), CLASSES_OF, draws())["loss"].backward()
        return {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    found = gradients()
    expected = {name for name, one in model.named_parameters() if one.requires_grad}
    assert not any(name.startswith(("language.", "words.")) for name in expected)
    assert set(found) == expected
    zero = {name for name, gradient in found.items() if not gradient.any()}
    assert zero == {name for name in found if ".bridge." in name and name.endswith(".a")}
    changed(model, "bridge")
    assert all(gradient.any() for gradient in gradients().values())


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize(("layout", "inert"), [(Layout(), "language"), (TEXT_FIRST, "vision")])
def test_maps_on_what_the_other_kind_never_reads_get_no_gradient(
    layout: Layout, inert: str, language: Language
) -> None:
    model = changed(new_libra(language))
    terms = caption_loss(model, [CaptionData(model, captions(), layout)])
    terms(features(IMAGES), CLASSES_OF, draws())["loss"].backward()
    for name, parameter in model.named_parameters():
        if ".bridge." in name:
            assert parameter.grad is not None
            assert parameter.grad.any() == (f"_{inert}." not in name), name


@pytest.mark.usefixtures("fp32")
def test_training_lowers_both_losses_and_repeats_itself(language: Language) -> None:
    first, second = (new_libra(language) for _ in range(2))
    rows = train(first, steps=30)
    assert rows[-1]["text"] < rows[0]["text"] * 0.8
    assert rows[-1]["vision"] < rows[0]["vision"] * 0.8
    again = train(second, steps=30)
    assert same(first.tensors(), second.tensors())
    assert [row["loss"] for row in rows] == [row["loss"] for row in again]


def test_the_optimizer_is_over_what_learns(language: Language) -> None:
    model = new_libra(language)
    optimizer = new_optimizer(model, learning_rate=0.3, weight_decay=0.2)
    (group,) = optimizer.param_groups
    assert [id(one) for one in group["params"]] == [id(one) for one in model.vision()]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.9, 0.99), 0.2)


@pytest.mark.parametrize("fast", [False, True])
def test_a_language_model_of_fewer_bits_can_be_learned_on(
    fast: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: fast)
    model = new_libra(tiny_language(tmp_path, dtype=torch.bfloat16))
    rows = train(model, steps=5)
    assert rows[-1]["loss"] < rows[0]["loss"]


# --- words ----------------------------------------------------------------------------------------


def grouped(count: int = 256) -> Tensor:
    """Return features around a few centres."""
    centres = 4 * torch.randn(16, DIM, generator=draws(1))
    which = torch.randint(16, (count,), generator=draws(2))
    return 7 + centres[which] + 0.1 * torch.randn(count, DIM, generator=draws(3))


def test_words_learn_to_tell_features_apart() -> None:
    words, x = Words(DIM, generator=draws()), grouped()
    found = fit_words(words, lambda: x, steps=60, learning_rate=1e-2)
    assert set(found) == {"reconstruction", "commitment", "entropy", "loss"}
    torch.testing.assert_close(words.mean, x.mean(dim=0))
    numbers = torch.where(words.numbers(x) > 0, 1.0, -1.0)
    error = (words.reconstruct(numbers) - x).square().mean() / (x - x.mean(dim=0)).square().mean()
    assert float(error.detach()) < 0.3


def test_words_are_learned_alike_from_alike_draws() -> None:
    def learn(seed: int) -> tuple[dict[str, float], dict[str, Tensor]]:
        words = Words(DIM, generator=draws())
        draw = positions_of(features(20), batch=16, draws=draws(seed))
        return fit_words(words, draw, steps=5), words.state_dict()

    (one, first), (two, second), (other, _) = learn(0), learn(0), learn(1)
    assert one == two != other
    assert same(first, second)


def test_words_of_no_steps_are_standardised_alone() -> None:
    words = Words(DIM, generator=draws())
    assert fit_words(words, grouped, steps=0) == {}
    torch.testing.assert_close(words.mean, grouped().mean(dim=0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told(value: float) -> None:
    words = Words(DIM, generator=draws())
    with pytest.raises(TrainingDiverged, match="words of images could not be learned"):
        fit_words(words, lambda: grouped() * value, steps=2)
    weights = WordLoss(commitment=value)
    with pytest.raises(TrainingDiverged):
        fit_words(Words(DIM, generator=draws()), grouped, steps=2, weights=weights)


def test_positions_are_drawn_from_all_images() -> None:
    x = features(20).half()
    draw = positions_of(x, batch=500, draws=draws())
    one, two = draw(), draw()
    assert one.shape == (500, DIM)
    assert one.dtype == torch.float32
    assert not torch.equal(one, two)
    assert {tuple(row) for row in one.tolist()} == {tuple(r) for r in x.flatten(0, 1).tolist()}
