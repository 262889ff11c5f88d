"""Parts sorted by a hex key, such as image ids: a part's name says which keys it spans.

A reader of a range of keys opens the parts that meet it and no others, and needs one listing of the
folder to know them.
"""

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

DIGITS = 16  # of a key that a name has
_NAME = re.compile(r"(?:.*/)?part-([0-9a-f]+)-([0-9a-f]+)-\w+\.parquet", re.DOTALL)


class Span(NamedTuple):
    """The first digits of the first and of the last key of a range; both belong to it."""

    first: str
    last: str

    def meets(self, other: "Span") -> bool:
        """Return whether some key may be in both ranges."""
        return self.first <= other.last and other.first <= self.last

    def file_name(self, digest: str) -> str:
        """Return the name of a part that spans this range."""
        return f"part-{self.first}-{self.last}-{digest[:8]}.parquet"


ALL = Span("", "g")  # "g" is above every hex digit


def span_of_keys(keys: Any) -> Span:
    """Return the range of sorted keys, an Arrow column with a row at least."""
    return Span(keys[0].as_py()[:DIGITS], keys[-1].as_py()[:DIGITS])


def span_of(uri: str) -> Span:
    """Return the range of a part by its name or URI; all keys if the name does not say."""
    match = _NAME.fullmatch(uri)
    return Span(match[1], match[2]) if match else ALL


def overlaps(uris: Iterable[str], spans: Sequence[Span]) -> list[list[str]]:
    """Return, for each of some ranges in rising order, the parts that may hold its keys."""
    waiting = deque(sorted((span_of(uri), uri) for uri in uris))
    open_parts: list[tuple[Span, str]] = []
    found = []
    for span in spans:
        while waiting and waiting[0][0].first <= span.last:
            open_parts.append(waiting.popleft())
        open_parts = [part for part in open_parts if part[0].last >= span.first]
        found.append([uri for own, uri in open_parts if own.meets(span)])
    return found


def keys_in(keys: Sequence[str], span: Span) -> Sequence[str]:
    """Return those of some sorted keys that are in a range."""
    return keys[bisect_left(keys, span.first) : bisect_right(keys, f"{span.last}g")]
