"""Names as people spell them: one spelling for composed and decomposed letters, case and spaces."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad"))  # no letters, and never meant


def fold(name: str) -> str:
    """Return a name for comparison: without case, in composed letters, each space a single one."""
    visible = unicodedata.normalize("NFC", name).translate(_INVISIBLE)
    return " ".join(unicodedata.normalize("NFC", visible.casefold()).split())


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
