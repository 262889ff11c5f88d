"""What is said: classes as the whole sentences' probabilities, and caches that change nothing."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipcore import precision
from clipcore.fit import Schedule, TrainingSet, fit, loader
from clipcore.libra import decode
from clipcore.libra.captions import Captions, load_vocabulary, write_captions
from clipcore.libra.decode import (
    ClassQuestion,
    Ending,
    imagine,
    imagined_features,
    likeliest,
    nucleus,
    say,
)
from clipcore.libra.fit import (
    CaptionData,
    Layout,
    caption_loss,
    image_words,
    new_optimizer,
)
from clipcore.libra.language import Language
from clipcore.libra.model import Libra, Sequences
from clipcore.libra.words import BEGIN, BOOKS, WORDS, signs_of_words
from tests.worlds.libra import (
    CLASSES,
    DIM,
    NEEDS_LLM,
    POSITIONS,
    beside,
    captions,
    changed,
    features,
    new_libra,
    vocabulary,
)
from tests.worlds.tensors import draws

PROMPT = (5, 17, 40)
STARTS = [(), (256,), (256, 9)]
NEVER = (-1,)


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: False)


def talker(language: Language, first: int = 0) -> Libra:
    """Return what has learned something, and looks closely at images."""
    return changed(changed(new_libra(language, first=first)), "project", by=1.0)


@torch.no_grad()
def log_p_after_image(
    model: Libra, signals: Tensor, start: tuple[int, ...], text: list[int]
) -> Tensor:
    """Return log-probabilities of each token of a text after an image: whole, without a cache."""
    words, seen = image_words(model, signals)
    whole = beside(start, words, seen, torch.tensor([text]).expand(len(words), -1))
    log_p = model.text_logits(model(whole)).log_softmax(dim=-1)[:, -len(text) - 1 : -1]
    return log_p.gather(2, torch.tensor(text).expand(len(words), -1)[..., None])[..., 0]


def class_log_p(
    model: Libra, signals: Tensor, told: Captions, start: tuple[int, ...] = ()
) -> Tensor:
    """Return the log-probability of each class's ending, one sentence after the other."""
    rows = []
    for ending in told.endings:
        log_p = log_p_after_image(model, signals, start, [*told.prompt, *ending])
        rows.append(log_p[:, len(told.prompt) :].sum(dim=1))
    return torch.stack(rows, dim=1)


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("first", [0, 1])
def test_a_class_has_the_probability_of_its_whole_sentence(
    first: int, start: tuple[int, ...], language: Language
) -> None:
    model, told, signals = talker(language, first), captions(), features(4)
    assert "panda bear".startswith("panda")
    found = ClassQuestion(model, told, start)(signals)
    expected = class_log_p(model, signals, told, start)
    assert found.shape == (4, len(CLASSES))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    p, renormalised = found.softmax(dim=1), expected.exp() / expected.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(p, renormalised, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(4))
    assert found.exp().sum(dim=1).max() < 1  # among all texts
    assert not torch.isclose(found[0], found[1]).any()  # images differ


@pytest.mark.parametrize(
    "names",
    [
        ["panda"],
        ["panda", "panda bear", "panda bear cub", "pandas"],
        ["x", "xy", "xyz", "y"],
        [f"class {number}" for number in range(12)],
    ],
)
@pytest.mark.parametrize("most", [1, 12, 1000])
def test_names_may_begin_as_other_ones_do(names: list[str], most: int, language: Language) -> None:
    model, signals = talker(language), features(2)
    told = write_captions(vocabulary(), names, "The {}.")
    found = ClassQuestion(model, told, most=most)(signals)
    torch.testing.assert_close(found, class_log_p(model, signals, told), atol=1e-5, rtol=0)


def test_endings_of_one_token_are_asked_at_the_prompt_alone(language: Language) -> None:
    model, signals = talker(language), features(2)
    told = Captions(PROMPT, ((7,), (8,), (9,)))
    found = ClassQuestion(model, told)(signals)
    torch.testing.assert_close(found, class_log_p(model, signals, told), atol=1e-5, rtol=0)


def test_the_order_of_classes_and_other_classes_change_nothing(language: Language) -> None:
    model, signals = talker(language), features(3)
    found = ClassQuestion(model, captions())(signals)
    told = write_captions(vocabulary(), ["dog", *CLASSES[::-1], "panda cat"], "The {}.")
    again = ClassQuestion(model, told)(signals)[:, [3, 2, 1]]
    torch.testing.assert_close(again, found, atol=1e-5, rtol=0)


def test_a_batch_is_answered_as_each_image_alone(language: Language) -> None:
    question, signals = ClassQuestion(talker(language), captions()), features(5)
    alone = torch.cat([question(signals[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(question(signals), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("most", [1, 2 * 280 * 3, 2 * 280 * 5 + 1])
def test_logits_come_in_pieces_where_memory_is_short(
    most: int, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, signals = ClassQuestion(talker(language), captions()), features(2)
    expected = question(signals)
    monkeypatch.setattr(decode, "MOST_LOGITS", most)
    torch.testing.assert_close(question(signals), expected, atol=2e-6, rtol=2e-6)


def test_bf16_arithmetic_says_about_the_same(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, signals = ClassQuestion(talker(language), captions()), features(3)
    expected = question(signals)
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: True)
    found = question(signals)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.5, rtol=0.02)
    assert not torch.equal(found, expected)


# --- sentences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("first", [0, 1])
def test_what_is_said_is_the_likeliest_of_whole_sequences(
    first: int, start: tuple[int, ...], language: Language
) -> None:
    model, signals = talker(language, first), features(3)
    said = say(model, signals, PROMPT, Ending(NEVER, most=7), start=start)
    assert [len(tokens) for tokens in said.tokens] == [7, 7, 7]
    assert len(set(said.tokens)) > 1
    assert not said.stopped.any()
    for row, tokens in enumerate(said.tokens):
        text = [*PROMPT, *tokens]
        log_p = log_p_after_image(model, signals[row : row + 1], start, text)[0]
        total = float(log_p[len(PROMPT) :].sum())
        assert float(said.log_probabilities[row]) == pytest.approx(total, rel=1e-6)
        for length in range(7):
            read = text[: len(PROMPT) + length]
            every = every_next(model, signals[row : row + 1], start, read)
            assert int(every.argmax()) == tokens[length]


@torch.no_grad()
def every_next(
    model: Libra, signals: Tensor | None, start: tuple[int, ...], text: list[int]
) -> Tensor:
    """Return the logits of what comes after a text, read whole."""
    if signals is None:
        return model.language(torch.tensor([[*start, *text]]))[0, -1]
    words, seen = image_words(model, signals)
    whole = beside(start, words, seen, torch.tensor([text]))
    return model.text_logits(model(whole))[0, -1]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pieces", [(3,), (1, 1, 1), (2, 1)])
def test_a_pass_in_pieces_has_the_states_of_a_whole_one(
    pieces: tuple[int, ...], first: int, language: Language
) -> None:
    """Text, an image, and text, of which the last is read in pieces."""
    model, signals = talker(language, first), features(2)
    words, seen = image_words(model, signals)
    text = torch.tensor([PROMPT, (9, 8, 7)])
    whole = beside((256, 4), words, seen, text)
    with torch.no_grad():
        expected = model(whole)
        reader = decode._Reader(model, 2)
        found = [reader.text(torch.tensor([[256, 4]])), reader.image(words, seen)]
        found += [reader.text(piece) for piece in text.split(list(pieces), dim=1)]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("start", [(), (256,)])
def test_without_images_the_language_model_speaks(
    start: tuple[int, ...], language: Language
) -> None:
    said = say(talker(language), None, PROMPT, Ending(NEVER, most=6), start=start)
    (tokens,) = said.tokens
    for length in range(6):
        every = every_next(talker(language), None, start, [*PROMPT, *tokens[:length]])
        assert int(every.argmax()) == tokens[length]


def test_each_sentence_ends_at_its_own_stop(language: Language) -> None:
    model, signals = talker(language), features(6)
    endless = say(model, signals, PROMPT, Ending(NEVER, most=8))
    stops = (endless.tokens[0][2], endless.tokens[1][4])
    said = say(model, signals, PROMPT, Ending(stops, most=8))
    for row, whole in enumerate(endless.tokens):
        ends = [place for place, token in enumerate(whole) if token in stops]
        length = ends[0] + 1 if ends else 8
        assert said.tokens[row] == whole[:length]
        assert bool(said.stopped[row]) == bool(ends)
        log_p = log_p_after_image(model, signals[row : row + 1], (), [*PROMPT, *whole[:length]])
        total = float(log_p[0, len(PROMPT) :].sum())
        assert float(said.log_probabilities[row]) == pytest.approx(total, rel=1e-6)
    lengths = {len(tokens) for tokens in said.tokens}
    assert len(lengths) > 1


def test_no_more_is_read_once_all_have_stopped(language: Language) -> None:
    said = say(talker(language), features(3), PROMPT, Ending(tuple(range(280)), most=10**9))
    assert [len(tokens) for tokens in said.tokens] == [1, 1, 1]
    assert said.stopped.all()


# --- draws ----------------------------------------------------------------------------------------


def test_a_nucleus_is_the_fewest_likeliest_tokens_with_that_much_together() -> None:
    p = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
    for top_p, allowed in [
        (0.01, {1}),
        (0.4, {1}),
        (0.41, {1, 3}),
        (0.8, {1, 3, 4}),
        (1.0, set(range(5))),
    ]:
        choose = nucleus(top_p, draws())
        drawn = choose(p.log().expand(4000, -1))
        counts = torch.bincount(drawn, minlength=5)
        assert set(counts.nonzero()[:, 0].tolist()) == allowed
        kept = torch.tensor([float(p[token]) if token in allowed else 0.0 for token in range(5)])
        torch.testing.assert_close(counts / 4000, kept / kept.sum(), atol=0.03, rtol=0)


def test_draws_follow_from_their_seed(language: Language) -> None:
    def spoken(seed: int, top_p: float = 0.95) -> tuple[tuple[int, ...], ...]:
        ending = Ending(NEVER, most=6, choose=nucleus(top_p, draws(seed)))
        return say(talker(language), features(3), PROMPT, ending).tokens

    assert spoken(0) == spoken(0) != spoken(1)
    greedy = say(talker(language), features(3), PROMPT, Ending(NEVER, most=6)).tokens
    assert spoken(0, top_p=1e-6) == greedy


def test_the_likeliest_is_taken_of_each_row() -> None:
    assert likeliest(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_images_are_drawn_position_by_position(first: int, language: Language) -> None:
    model = talker(language, first)
    found = imagine(model, PROMPT, images=2)
    assert found.shape == (2, POSITIONS, BOOKS)
    assert found.dtype == torch.long
    assert 0 <= int(found.min()) <= int(found.max()) < WORDS
    assert torch.equal(found[0], found[1])
    assert torch.equal(found, imagine(model, PROMPT, images=2))
    none = torch.zeros(1, 0, dtype=torch.long)
    begin = torch.full((1, 1, BOOKS), BEGIN)
    for place in range(POSITIONS):  # read whole, features zero
        words = torch.cat([begin, found[:1, :place]], dim=1)
        whole = beside(PROMPT, words, torch.zeros(1, place + 1, DIM), none)
        with torch.no_grad():
            logits = model.word_logits(model(whole)[:, -1])
        assert torch.equal(logits[..., :WORDS].argmax(dim=-1)[0], found[0, place])


def test_an_image_is_of_one_size_also_where_its_end_is_likelier(language: Language) -> None:
    model = talker(language)
    words = imagine(model, PROMPT)[0, 0]
    with torch.no_grad():
        for head, word in zip(model.heads, words, strict=True):
            assert isinstance(head, torch.nn.Linear)
            head.weight[WORDS:] = 100 * head.weight[word]
    assert torch.equal(imagine(model, PROMPT)[0, 0], words)


def test_drawn_images_differ_and_follow_from_their_seed(language: Language) -> None:
    model = talker(language)

    def drawn(seed: int) -> Tensor:
        return imagine(model, PROMPT, images=3, choose=nucleus(0.99, draws(seed)))

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert len(drawn(0).flatten(1).unique(dim=0)) == 3
    other = imagine(model, (100, 101), images=1)
    assert not torch.equal(other, imagine(model, PROMPT, images=1))


def test_words_stand_for_features(language: Language) -> None:
    model = talker(language)
    model.words.standardise(features(9).flatten(0, 1))
    words = imagine(model, PROMPT, images=2)
    found = imagined_features(model, words)
    assert found.shape == (2, POSITIONS, DIM)
    for row, place in itertools.product(range(2), range(POSITIONS)):
        signs = signs_of_words(words[row, place])
        torch.testing.assert_close(found[row, place], model.words.reconstruct(signs))


# --- a real one -----------------------------------------------------------------------------------


class TestSmolLM2:
    pytestmark = NEEDS_LLM

    def test_it_learns_to_say_the_name_and_its_text_stays_bit_for_bit(
        self, smollm2: Path, smol_language: Language
    ) -> None:
        words = load_vocabulary(smollm2)
        told = write_captions(words, CLASSES)
        model = new_libra(smol_language, first=28, rank=16)
        ids = torch.tensor([words.encode("A photo of the panda bear. It was sleeping.")])
        with torch.no_grad():
            before, sha = smol_language(ids), smol_language.sha256()
        labels = torch.arange(12) % 3
        signals = 2 * features(3)[labels] + 0.1 * features(12, seed=1)
        model.words.standardise(signals.flatten(0, 1))
        schedule = Schedule(epochs=30, batch_size=12, seed=0, stream="libra", max_norm=1.0)
        for _ in fit(
            new_optimizer(model, learning_rate=3e-3, weight_decay=0.01),
            caption_loss(model, [CaptionData(model, told, Layout())]),
            TrainingSet(labels, loader(signals.__getitem__)),
            schedule,
            epochs=range(30),
        ):
            pass
        asked = torch.arange(3)
        others = 2 * features(3) + 0.1 * features(3, seed=2)
        assert torch.equal(ClassQuestion(model, told)(others).argmax(dim=1), asked)
        said = say(model, others, told.prompt, Ending(told.stops))
        assert [words.decode(tokens) for tokens in said.tokens] == [f" {name}." for name in CLASSES]
        assert said.stopped.all()
        none = torch.zeros_like(ids)
        text = Sequences(
            ids, none > 0, none[..., None].expand(-1, -1, BOOKS), torch.zeros(*ids.shape, DIM)
        )
        with torch.no_grad():
            assert torch.equal(model.text_logits(model(text)), before)
        assert smol_language.sha256() == sha
