"""Files that could not be used: where, at which stage, why. One bad file never stops a run."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa

from clipcore.images import BadImage
from tasks.images.sources import FileTooLarge
from tasks.storage.uris import redact

SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("bytes", pa.int64()),
    ]
)
UNREADABLE = "unreadable"  # the disk, network or permission, not the content: worth another try
TOO_LARGE = "too-large-file"
_DETAIL = 500  # characters; some decoders print what they read


class Quarantined:
    """Bad images of one stage, collected row by row and handed on as a table."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows: list[dict[str, str | int | None]] = []

    def add(self, uri: str, error: BadImage | OSError, *, num_bytes: int | None = None) -> None:
        """Note one file; `num_bytes` is its size where that is known."""
        reason, detail = explain(error)
        row = {"uri": uri, "stage": self.stage, "reason": reason, "detail": detail}
        self.rows.append({**row, "bytes": num_bytes})

    def table(self) -> pa.Table:
        """Return the rows with the schema of `quarantine/part-*.parquet`."""
        return pa.Table.from_pylist(self.rows, SCHEMA)


def explain(error: BadImage | OSError) -> tuple[str, str]:
    """Return (reason, detail): a short word to count by, and what a person can act on."""
    if isinstance(error, BadImage):
        reason, detail = error.reason, error.detail
    elif isinstance(error, FileTooLarge):
        reason, detail = TOO_LARGE, str(error)
    else:
        reason, detail = UNREADABLE, error.strerror or str(error) or type(error).__name__
    return reason, redact(detail).encode(errors="backslashreplace").decode()[:_DETAIL]


def most_frequent(reasons: Mapping[str, int] | Iterable[str], *, most: int = 3) -> str:
    """Say the most frequent reasons in one line: `12 x truncated, 3 x not-an-image`."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common(most))
