"""Names as people spell them: one spelling for composed and decomposed letters, case and spaces."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad"))  # no letters, and never meant
_INVISIBLE |= dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
# How Unicode calls a form of a letter that is no letter of its own; İ is i in lower case.
_SAME_LETTER = frozenset(
    f"<{kind}>" for kind in ("wide", "narrow", "compat", "initial", "medial", "final", "isolated")
)


def visible(name: str) -> str:
    """Return a name without signs that nobody sees, and without spaces around it."""
    return name.translate(_INVISIBLE).strip()


def fold(name: str) -> str:
    """Return a name for comparison: without case, in composed letters, each space a single one.

    Letters of another width or joined ones are the letters that they are made of; signs that mean
    something else, such as superscript digits, are kept.
    """
    plain = "".join(map(_plain, unicodedata.normalize("NFC", visible(name))))
    folded = unicodedata.normalize("NFC", plain.casefold()).replace("i\u0307", "i")
    return " ".join(folded.split())


def _plain(sign: str) -> str:
    kind = unicodedata.decomposition(sign).partition(" ")[0]
    return unicodedata.normalize("NFKC", sign) if kind in _SAME_LETTER else sign


class Names:
    """Class names, found as people write them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._exact = frozenset(names)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._folded[fold(name)].append(name)

    def find(self, label: str) -> str | None:
        """Return the only class that a label can mean, or None."""
        for written in (label, label.strip()):
            if written in self._exact:
                return written
        similar = self._folded.get(fold(label), [])
        return similar[0] if len(similar) == 1 else None

    def find_all(self, labels: Any) -> pa.Array:
        """Return the class of each label of a column, null where there is none."""
        distinct = pc.unique(labels).drop_null()
        meant = pa.array([self.find(label) for label in distinct.to_pylist()], pa.string())
        return meant.take(pc.index_in(labels, distinct))
