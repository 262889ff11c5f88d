"""Words as hashed letter n-grams, and the slips of who types them."""

import string
import zlib

import numpy as np

WIDTH = 256
_LENGTHS = (1, 2, 3)


def ngrams(word: str) -> np.ndarray:
    """Return how often each n-gram of a word's letters occurs, by its hash, of length 1.

    Args:
        word: Letters; its start and its end count as one.

    Returns:
        Of shape (WIDTH), float32.
    """
    marked = f"^{word}$"
    counts = np.zeros(WIDTH, np.float32)
    for length in _LENGTHS:
        for start in range(len(marked) - length + 1):
            counts[zlib.crc32(marked[start : start + length].encode()) % WIDTH] += 1
    return counts / np.linalg.norm(counts)


def mistyped(word: str, draws: np.random.Generator) -> str:
    """Return a word with one letter left out, doubled, exchanged with the next, or another one."""
    at = int(draws.integers(len(word)))
    here, rest = word[at], word[at + 1 :]
    other = draws.choice(list(string.ascii_lowercase))
    slips = [rest, here + here + rest, rest[:1] + here + rest[1:], other + rest]
    return word[:at] + slips[draws.integers(len(slips))] or word
