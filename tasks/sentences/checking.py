"""Texts that others wrote as class sentences: what is wrong with one is counted, and it is dropped.

What is kept is one line of letters, numbers and common signs. It is read by a text tower and shown
to people; it never becomes part of a path, a query or a command, and braces in it have no meaning.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from tasks.annotations.spelling import fold

LONGEST = 300  # characters of a sentence; a text tower reads no more than 77 words or pieces
MOST = 100  # texts of a class
_CONTROL = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi
_HOSTILE = re.compile(r"[<>{}\\`$|\[\]]|://|\bwww\.", re.IGNORECASE)
_NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"  # Thai, Lao, Japanese, Chinese
_WORD = re.compile(f"[{_NO_SPACES}]|[^\\W_{_NO_SPACES}]+")
_SIGN = re.compile(r"[.!?]$")


class Dropped(StrEnum):
    """Why a text was not used."""

    MALFORMED = "malformed"
    EMPTY = "empty"
    REPEATED = "repeated"
    TOO_LONG = "too long"
    TOO_MANY = "too many"
    OFF_CLASS = "off class"
    HOSTILE = "with markup or code"
    CONTROL = "with control characters"


def is_sentence(text: str) -> bool:
    """Return whether a text is a sentence, and no name: it ends with a mark."""
    return bool(_SIGN.search(text))


def checked(texts: object) -> tuple[list[str], Counter[str]]:
    """Return the texts of a list that can be used, and how many others there are, by reason."""
    if not isinstance(texts, list | tuple):
        return [], Counter({Dropped.MALFORMED: 1})
    kept, dropped, seen = list[str](), Counter[str](), set[str]()
    for text in texts:
        spoken = " ".join(text.split()) if isinstance(text, str) else ""
        problem = _problem(text) or (Dropped.REPEATED if fold(spoken) in seen else None)
        problem = problem or (Dropped.TOO_MANY if len(kept) >= MOST else None)
        if problem:
            dropped[problem] += 1
        else:
            seen.add(fold(spoken))
            kept.append(spoken)
    return kept, dropped


def on_class(
    texts: Iterable[str], name: str, others: Iterable[str]
) -> tuple[list[str], Counter[str]]:
    """Return the texts that name their class and no other one, and how many do not."""
    own = _words(name)
    forms = [own, f"{own.rstrip()}s ", f"{own.rstrip()}es "]
    foreign = [words for other in others if (words := _words(other)) not in own]
    kept, dropped = list[str](), Counter[str]()
    for text in texts:
        spoken = _words(text)
        is_own = any(form in spoken for form in forms)
        if is_own and not any(words in spoken for words in foreign):
            kept.append(text)
        else:
            dropped[Dropped.OFF_CLASS] += 1
    return kept, dropped


def _problem(text: object) -> Dropped | None:
    """Return what is wrong with a text alone."""
    if not isinstance(text, str):
        return Dropped.MALFORMED
    if len(text) > LONGEST:
        return Dropped.TOO_LONG
    if any(unicodedata.category(c) in _CONTROL and c not in _JOINERS for c in text.strip()):
        return Dropped.CONTROL
    if not any(sign.isalnum() for sign in text):
        return Dropped.EMPTY
    return Dropped.HOSTILE if _HOSTILE.search(text) else None


def _words(text: str) -> str:
    """Return a text as words between single spaces, one before the first and behind the last."""
    return f" {' '.join(_WORD.findall(fold(text)))} "


def add_up(dropped: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return how many texts were dropped in all, by reason."""
    total = Counter[str]()
    for own in dropped:
        total.update(own)
    return dict(total)
