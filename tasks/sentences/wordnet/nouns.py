"""The senses of a noun, its synonyms in each of them and what they are a kind of."""

import lzma
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.annotations.spelling import fold

FILE = Path(__file__).with_name("nouns.xz")  # `pack.py` says what is in it

_PLURALS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


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
    """Return the senses of a name, the most frequent one first; none where it is no noun.

    Behind those of a word stand those of the word that it may be the plural of: `shoes` are what
    somebody is in, and footwear.
    """
    lines, ranked = _nouns()
    key = _key(name)
    own = [sorted(ranked.get(word, ())) for word in (key, *_singulars(key))]
    places = dict.fromkeys(place for found in own for _, place in found)
    return [_sense(lines, place) for place in places]


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


def _singulars(word: str) -> list[str]:
    """Return the words that a word may be the plural of, as WordNet takes plurals apart."""
    return [word.removesuffix(end) + other for end, other in _PLURALS if word.endswith(end)]


def _spoken(numbered: str) -> str:
    return numbered.partition("#")[0].replace("_", " ")


def _key(word: str) -> str:
    """Return a word for comparison: case, spaces, hyphens and underscores make no difference."""
    return fold(word.replace("_", " ").replace("-", " "))
