"""How labels for evaluation were understood, counted before any image is read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotations.matching import are_enough
from tasks.annotations.reading import read_answers
from tasks.annotations.spelling import Names
from tasks.images.sources import Source
from tasks.pool.entries import iter_entries
from tasks.pool.label_file import BadLabels, LabelFile, origin_of, read_label_file
from tasks.pool.names import folders_of, names_of
from tasks.pool.parquet_labels import labelled_tables, read_labels
from tasks.pool.splits import below_split
from tasks.pool.understood import EXAMPLES, LabelCounts, Understood
from tasks.specs import COLUMN, FOLDERS, PoolSpec
from tasks.storage.sql import temporary_database
from tasks.storage.uris import redact


def count_labels(
    spec: PoolSpec, sources: Sequence[Source], classes: Sequence[str], *, is_split: bool
) -> LabelCounts:
    """Return how many labels name an image of the run and one of its classes, and examples.

    Args:
        spec: With labels.
        sources: The images and, if they are separate, the test images.
        classes: The class names.
        is_split: Whether first folders are splits.

    Raises:
        BadLabels: there are no labels, or fewer than half can be used, unless
            `allow_partial_labels` says that this is known.
    """
    if spec.labels in (COLUMN, FOLDERS):
        counts = LabelCounts(origin=origin_of(spec))
        for names, labels in iter_named(spec, sources, is_split=is_split):
            counts = _add(counts, names, labels, classes)
    else:
        given, origin = read_label_file(spec, classes), origin_of(spec)
        counts = _count(given, sources, classes, origin=origin, one_each=True)
    _check(counts, spec, classes)
    return counts


def count_answers(uri: str, spec: PoolSpec, found: Understood) -> LabelCounts:
    """Return how many answers of a file name an image of the run and one of its classes.

    Of one image several people may have said different things.

    Args:
        uri: The file.
        spec: What was asked for.
        found: The images and the classes.

    Raises:
        BadLabels: as `count_labels`.
    """
    names = found.classes.names
    answers = read_answers(uri, names, spec.label_columns)
    labels = answers.filter(pc.equal(answers["kind"], "label"))
    origin = f"--answers {redact(uri)}"
    counts = _count([labels], found.sources, names, origin=origin, one_each=False)
    _check(counts, spec, names)
    return counts


def iter_named(
    spec: PoolSpec, sources: Sequence[Source], *, is_split: bool
) -> Iterator[tuple[Any, Any]]:
    """Yield names of images and their labels, by folders or by a column.

    Raises:
        BadLabels: Parquet files are to have folders, or image files a column.
    """
    if spec.labels == FOLDERS:
        source = _source_with_folders(sources)
        names = names_of(source)
        yield names, folders_of(below_split(names) if is_split else names)
    else:
        for uri in labelled_tables(sources):
            labels = read_labels(uri)
            yield pa.array([f"{uri}#{row}" for row in range(len(labels))], pa.string()), labels


def _count(
    labels: Iterable[pa.Table],
    sources: Sequence[Source],
    classes: Sequence[str],
    *,
    origin: str,
    one_each: bool,
) -> LabelCounts:
    """Count the labels of a file; of one image they may differ unless it has `one_each`."""
    with temporary_database() as database:
        file = LabelFile(database, labels, classes, origin=origin)
        file.match((table["uri"], table["name"]) for table in iter_entries(sources))
        if one_each:
            file.check_conflicts()
        return file.counts()


def _add(counts: LabelCounts, names: Any, labels: Any, classes: Sequence[str]) -> LabelCounts:
    is_known = Names(classes).find_all(labels).is_valid()
    is_unknown = pc.and_not(labels.is_valid(), is_known)
    changes: dict[str, object] = {}
    for verdict, mask in (("matched", is_known), ("unknown", is_unknown)):
        rows = pa.table([names, labels], ["name", "label"]).filter(mask)
        few = rows.slice(0, EXAMPLES).to_pylist()
        examples = (*getattr(counts, verdict), *(f"{r['name']}: {r['label']}" for r in few))
        changes[verdict] = examples[:EXAMPLES]
        changes[f"num_{verdict}"] = getattr(counts, f"num_{verdict}") + rows.num_rows
    return counts.model_copy(update=changes)


def _check(counts: LabelCounts, spec: PoolSpec, classes: Sequence[str]) -> None:
    if not counts.num_rows:
        msg = "expected a label for some images, got none; check the folders or the file"
        raise BadLabels(f"{counts.origin}: {msg}")
    if are_enough(counts.num_matched, counts.num_rows, allow_partial=spec.allow_partial_labels):
        return
    problems = []
    if counts.num_unmatched:
        examples = ", ".join(counts.unmatched)
        problems.append(f"{counts.num_unmatched:,} name no image, or several ({examples})")
    if counts.num_unknown:
        names = f"{len(classes)} class names ({', '.join(classes[:5])}, ...)"
        examples = ", ".join(counts.unknown)
        problems.append(f"{counts.num_unknown:,} are not among the {names}: {examples}")
    msg = (
        f"{counts.origin}: {counts.num_matched:,} of {counts.num_rows:,} labels can be used; "
        f"{', and '.join(problems)}. Compare them with the images and --classes"
    )
    more = ", or say --allow-partial-labels" if counts.num_matched else ""
    raise BadLabels(redact(msg + more))


def _source_with_folders(sources: Sequence[Source]) -> Source:
    """Return the source that accuracy is measured on; refuse Parquet, which has no folders."""
    source = sources[-1]
    if source.kind == "tables":
        msg = (
            f"--labels folders: {source.uri} is Parquet and has no folders; "
            "use --labels column, or a file with columns uri and label"
        )
        raise BadLabels(msg)
    return source
