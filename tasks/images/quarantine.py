"""The quarantine: files that cannot be used, with stage and reason; they never stop a run."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa

from clipcore.image_files import MAY_PASS as OF_THE_MACHINE
from clipcore.image_files import BadImage
from tasks.images.objects import FileTooLarge
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
UNREADABLE = "unreadable"  # disk, network or permission, not content: may be read another time
MAY_PASS = (UNREADABLE, *OF_THE_MACHINE)  # reasons that the next run tries again
TOO_LARGE = "too-large-file"
_DETAIL = 500  # characters; some decoders quote their input


class Quarantined:
    """Collects the files of one stage that cannot be used."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows: list[dict[str, str | int | None]] = []

    def add(self, uri: str, error: BadImage | OSError, *, num_bytes: int | None = None) -> None:
        """Add one file; `num_bytes` is its size, if it is known."""
        reason, detail = explain(error)
        row = {"uri": uri, "stage": self.stage, "reason": reason, "detail": detail}
        self.rows.append({**row, "bytes": num_bytes})

    def table(self) -> pa.Table:
        """Return the files as a table with schema `SCHEMA`."""
        return pa.Table.from_pylist(self.rows, SCHEMA)


def explain(error: BadImage | OSError) -> tuple[str, str]:
    """Return the reason as a slug, and the detail as a sentence for people."""
    if isinstance(error, BadImage):
        reason, detail = error.reason, error.detail
    elif isinstance(error, FileTooLarge):
        reason, detail = TOO_LARGE, str(error)
    else:
        reason, detail = UNREADABLE, error.strerror or str(error) or type(error).__name__
    return reason, redact(detail).encode(errors="backslashreplace").decode()[:_DETAIL]


def most_frequent(reasons: Mapping[str, int] | Iterable[str], *, limit: int = 3) -> str:
    """Return the most frequent reasons in one line: `12 x truncated, 3 x not-an-image`."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common(limit))
