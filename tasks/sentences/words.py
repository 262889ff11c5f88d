"""The choice of class sentences in words: a table, and the reason."""

from collections.abc import Iterator, Mapping, Sequence

from clipcore.sentences import LEAST_SHARE, MIN_PER_CLASS, PLAIN
from tasks.sentences.record import Record, Weighed

_HEADER = ("sentences", "mutual information", "smallest class share", "own", "dropped")


def why(chosen: str, weighed: Sequence[Weighed]) -> str:
    """Return in a sentence why a set was chosen."""
    by_name = {row.name: row for row in weighed}
    own, plain = by_name[chosen], by_name[PLAIN]
    better = [row for row in weighed if row.mutual_information > own.mutual_information]
    best = max(better, key=lambda row: row.mutual_information, default=None)
    refused = _refused(best) if best else ""
    if chosen == PLAIN:
        others = "no other set tells" if len(weighed) > 1 else "there is no other set that tells"
        return f"{PLAIN}: {refused or f'{others} the images apart better'}"
    return (
        f"{chosen}: they tell the images apart best (mutual information "
        f"{own.mutual_information:.3f}, plain {plain.mutual_information:.3f}), and every class "
        f"keeps its share{f'; {refused}' if refused else ''}"
    )


def _refused(row: Weighed) -> str:
    """Return why a set was not chosen that tells the images apart better."""
    if row.least_share >= LEAST_SHARE:
        return f"fewer than {MIN_PER_CLASS} images a class are too few to prefer {row.name}"
    return (
        f"{row.name} would leave {row.least_class!r} {row.least_share:.2f} of its share, less "
        f"than {LEAST_SHARE:g}"
    )


def table(record: Record) -> Iterator[str]:
    """Yield the lines of the table of all sets, the chosen one marked."""
    rows = [_HEADER, *map(_cells, record.candidates)]
    widths = [max(len(row[column]) for row in rows) for column, _ in enumerate(_HEADER)]
    for row, candidate in zip(rows, (None, *record.candidates), strict=True):
        mark = "*" if candidate and candidate.name == record.chosen else " "
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{mark} {'  '.join(cells)}".rstrip()


def _cells(row: Weighed) -> tuple[str, ...]:
    share = f"{row.least_share:.2f} of plain" + (f" ({row.least_class})" if row.least_class else "")
    return (
        row.name,
        f"{row.mutual_information:.3f}",
        share,
        f"{row.num_sentences:,} of {row.num_classes:,} classes",
        reasons(row.dropped),
    )


def reasons(dropped: Mapping[str, int]) -> str:
    """Return how many were dropped for which reason, the most frequent first."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)
