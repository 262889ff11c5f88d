"""The senses of a noun, its synonyms in each of them and what they are a kind of."""

import hashlib
import lzma
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.annotations.spelling import fold

FILE = Path(__file__).with_name("nouns.xz")  # `pack.py` says what is in it


@dataclass(frozen=True)
class Sense:
    """One meaning of a noun.

    Attributes:
        synonyms: All words for it, the noun itself among them.
        hypernym: The first word for what it is a kind of; empty for `entity` alone.
    """

    synonyms: tuple[str, ...]
    hypernym: str = ""


def senses(name: str) -> list[Sense]:
    """Return the senses of a name, the most frequent one first; none where it is no noun."""
    lines, ranked = _nouns()
    return [_sense(lines, place) for _, place in sorted(ranked.get(_key(name), ()))]


def digest() -> str:
    """Return what tells these nouns from those of another file."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:16]


def _sense(lines: Sequence[str], place: int) -> Sense:
    distance, *words = lines[place].split(" ")
    above = lines[place + int(distance)].split(" ")[1] if distance else ""
    return Sense(tuple(map(_spoken, words)), _spoken(above))


@cache
def _nouns() -> tuple[list[str], dict[str, list[tuple[int, int]]]]:
    """Return the lines of the file, and of each word the ranks and the lines of its senses."""
    lines = lzma.decompress(FILE.read_bytes()).decode().splitlines()
    ranked = defaultdict[str, list[tuple[int, int]]](list)
    for place, line in enumerate(lines):
        for numbered in line.split(" ")[1:]:
            word, _, rank = numbered.partition("#")
            ranked[_key(word)].append((int(rank or 1), place))
    return lines, dict(ranked)


def _spoken(numbered: str) -> str:
    return numbered.partition("#")[0].replace("_", " ")


def _key(word: str) -> str:
    """Return a word for comparison: case, spaces, hyphens and underscores make no difference."""
    return fold(word.replace("_", " ").replace("-", " "))
