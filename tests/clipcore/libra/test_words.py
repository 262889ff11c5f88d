"""Words of images: signs that spell a number, the losses, and how much of a book is used."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore.libra.words import (
    BEGIN,
    BITS,
    BOOKS,
    DEFAULT_LOSS,
    END,
    VOCABULARY,
    WORDS,
    WordLoss,
    Words,
    entropy_loss,
    signs_of,
    signs_of_words,
    usage,
    words_of,
)
from tests.worlds.tensors import draws, same, snapshot

EVERY = torch.arange(WORDS)[:, None].expand(-1, BOOKS)
DIM = 6


def new_words(seed: int = 0) -> Words:
    return Words(DIM, generator=draws(seed))


def features(count: int = 40, seed: int = 1) -> Tensor:
    return 5 + 3 * torch.randn(count, DIM, generator=draws(seed))


# --- signs and words ------------------------------------------------------------------------------


def test_the_vocabulary_has_two_words_beside_those_of_a_book() -> None:
    assert (WORDS, BEGIN, END, VOCABULARY) == (512, 512, 513, 514)


def test_all_words_go_to_signs_and_back() -> None:
    signs = signs_of_words(EVERY)
    assert signs.shape == (512, 2, 9)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert len(signs.flatten(1).unique(dim=0)) == 512
    assert torch.equal(words_of(signs), EVERY)
    assert torch.equal(signs_of(signs), signs)


def test_a_word_is_written_in_binary_lowest_bit_first() -> None:
    signs = torch.full((BOOKS, BITS), -1.0)
    signs[0, 0] = signs[0, 3] = signs[1, 8] = 1.0
    assert words_of(signs).tolist() == [1 + 8, 256]


@given(st.lists(st.floats(width=32), min_size=18, max_size=18))
def test_any_numbers_spell_words_of_a_book(numbers: list[float]) -> None:
    words = words_of(torch.tensor(numbers).view(BOOKS, BITS))
    assert 0 <= int(words.min()) <= int(words.max()) < WORDS


def test_the_gradient_passes_as_if_nothing_had_been_done() -> None:
    numbers = torch.randn(7, BOOKS, BITS, generator=draws()).requires_grad_()
    weights = torch.randn(7, BOOKS, BITS, generator=draws(1))
    signs = signs_of(numbers)
    assert torch.equal(signs.sign(), numbers.sign())
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs))
    (signs * weights).sum().backward()
    assert numbers.grad is not None
    assert torch.equal(numbers.grad, weights)


def test_features_become_the_words_of_their_numbers() -> None:
    words, x = new_words(), features()
    found = words(x)
    assert found.shape == (40, 2)
    assert torch.equal(found, words_of(signs_of(words.numbers(x))))
    assert len(found.unique(dim=0)) > 1


# --- losses ---------------------------------------------------------------------------------------


def entropy_with_loops(numbers: Tensor, weights: WordLoss) -> float:
    """E[H(p)] - diversity * H(E[p]) with p = softmax(-t |z - code|^2), word by word."""
    total = 0.0
    for book in range(BOOKS):
        shares = [0.0] * WORDS
        sure = 0.0
        for z in numbers[:, book].tolist():
            exponents = []
            for word in range(WORDS):
                code = [1.0 if word >> bit & 1 else -1.0 for bit in range(BITS)]
                distance = sum((a - b) ** 2 for a, b in zip(z, code, strict=True))
                exponents.append(-weights.inverse_temperature * distance)
            largest = max(exponents)
            scores = [math.exp(exponent - largest) for exponent in exponents]
            p = [score / sum(scores) for score in scores]
            sure -= sum(value * math.log(value) for value in p if value > 0) / len(numbers)
            shares = [old + new / len(numbers) for old, new in zip(shares, p, strict=True)]
        spread = -sum(share * math.log(share) for share in shares if share > 0)
        total += (sure - weights.diversity * spread) / BOOKS
    return total


@pytest.mark.parametrize("temperature", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("diversity", [0.0, 1.0, 2.5])
def test_entropy_is_the_formula_written_out(temperature: float, diversity: float) -> None:
    weights = WordLoss(inverse_temperature=temperature, diversity=diversity)
    numbers = 0.3 * torch.randn(5, BOOKS, BITS, generator=draws(2))
    expected = entropy_with_loops(numbers, weights)
    assert float(entropy_loss(numbers, weights)) == pytest.approx(expected, abs=2e-5)


def test_entropy_asks_each_to_be_sure_and_all_to_differ() -> None:
    every = signs_of_words(EVERY)
    assert float(entropy_loss(every, DEFAULT_LOSS)) == pytest.approx(-2.5 * math.log(512), abs=1e-4)
    one = every[:1].expand(512, -1, -1)
    assert float(entropy_loss(one, DEFAULT_LOSS)) == pytest.approx(0, abs=1e-4)
    unsure = torch.zeros_like(every)
    expected = (1 - 2.5) * math.log(512)  # each position and all of them together
    assert float(entropy_loss(unsure, DEFAULT_LOSS)) == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_the_loss_is_its_terms_weighed() -> None:
    words, x = new_words(), features()
    words.standardise(x)
    weights = WordLoss(commitment=0.7, entropy=0.3)
    terms = words.losses(x, weights)
    numbers = words.numbers(x)
    signs = torch.where(numbers > 0, 1.0, -1.0)
    again = words.reconstruct(signs)
    size = (x - x.mean(dim=0)).square().mean()
    assert float(terms["reconstruction"]) == pytest.approx(
        float((again - x).square().mean() / size), rel=1e-4
    )
    assert float(terms["commitment"]) == pytest.approx(float((numbers - signs).square().mean()))
    expected = terms["reconstruction"] + 0.7 * terms["commitment"] + 0.3 * terms["entropy"]
    torch.testing.assert_close(terms["loss"], expected)


def test_every_parameter_learns_from_the_loss() -> None:
    words, x = new_words(), features()
    words.standardise(x)
    words.losses(x, DEFAULT_LOSS)["loss"].backward()
    for name, parameter in words.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


# --- sizes, starts, usage -------------------------------------------------------------------------


def test_standardised_features_lie_around_zero_and_have_size_one() -> None:
    words, x = new_words(), features(200)
    words.standardise(x)
    y = words.standardised(x)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(DIM), atol=1e-5, rtol=0)
    assert float(y.square().mean()) == pytest.approx(1, abs=1e-5)
    words.standardise(torch.ones(4, DIM))  # alike: nothing is divided by zero
    assert torch.isfinite(words.standardised(x)).all()


def test_a_start_follows_from_its_seed_and_from_nothing_else() -> None:
    torch.rand(3)
    assert same(new_words().state_dict(), new_words().state_dict())
    assert not same(new_words().state_dict(), new_words(1).state_dict())


def test_nothing_of_them_but_the_statistics_is_changed_by_standardising() -> None:
    words = new_words()
    before = snapshot(dict(words.named_parameters()))
    words.standardise(features())
    assert same(dict(words.named_parameters()), before)
    assert not torch.equal(words.mean, torch.zeros(DIM))


def test_usage_counts_words_and_how_evenly_they_are_used() -> None:
    found = usage(torch.tensor([[0, 7], [1, 7], [2, 7], [3, 7]]))
    assert found.used == (4, 1)
    assert found.perplexity == pytest.approx((4.0, 1.0))
    uneven = usage(torch.tensor([[5, 511], [5, 511], [5, 0], [6, 511]]))
    assert uneven.used == (2, 2)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert uneven.perplexity == pytest.approx((math.exp(entropy),) * 2)
