"""Letter n-grams counted again with loops, and slips of at most one letter."""

import zlib

import numpy as np
import pytest

from tasks.harmony.digits.letters import WIDTH, mistyped, ngrams


@pytest.mark.parametrize("word", ["seven", "o", "aaaa"])
def test_ngrams_are_counted_by_their_hash(word: str) -> None:
    counts = [0.0] * WIDTH
    text = "^" + word + "$"
    for first in range(len(text)):
        for last in range(first + 1, min(first + 3, len(text)) + 1):
            counts[zlib.crc32(text[first:last].encode()) % WIDTH] += 1
    found = ngrams(word)
    np.testing.assert_allclose(found, np.array(counts) / np.linalg.norm(counts), rtol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1)


def test_words_that_share_letters_are_nearer() -> None:
    assert ngrams("sieben") @ ngrams("siedem") > ngrams("sieben") @ ngrams("vier")


def slips(word: str) -> set[str]:
    """Every word one slip away, by its definition."""
    found = set()
    for at, letter in enumerate(word):
        before, after = word[:at], word[at + 1 :]
        found |= {before + after, before + letter * 2 + after}
        found |= {before + other + after for other in "abcdefghijklmnopqrstuvwxyz"}
        found |= {before + after[:1] + letter + after[1:]}
    return found - {""}


@pytest.mark.parametrize("word", ["seven", "o", "if"])
def test_a_mistyped_word_is_one_slip_away(word: str) -> None:
    draws = np.random.default_rng(0)
    found = {mistyped(word, draws) for _ in range(300)}
    assert found <= slips(word)
    assert len(found) > 10


def test_equal_draws_make_equal_slips() -> None:
    first, second = (
        [mistyped("seven", draws) for _ in range(20)]
        for draws in (np.random.default_rng(1), np.random.default_rng(1))
    )
    assert first == second
