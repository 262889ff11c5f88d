"""Labels for evaluation: where they come from, and whether they match the class names."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from tasks.images.listing import one_line
from tasks.images.parquet import read_columns, read_schema
from tasks.images.sources import Source, list_source
from tasks.pool.classes import (
    NoClassNames,
    check_classes,
    given_classes,
    list_names,
    names_of_schema,
)
from tasks.pool.understood import ClassList, Understood
from tasks.specs import InputError, PoolSpec
from tasks.storage.files import exists, open_read
from tasks.storage.uris import redact

COLUMN, FOLDERS = "column", "folders"


class BadLabels(InputError):
    """The labels for evaluation are absent, unreadable, or name unknown classes."""


def read_classes(spec: PoolSpec, sources: Sequence[Source] | None = None) -> tuple[str, ...]:
    """Return the given class names, else those in Parquet metadata, else the names of labels.

    Args:
        spec: `classes` is a text file (one name on each line; `#` starts a comment), a CSV file
            (column class, name or label, else the first one), or names split by commas.
        sources: The images and the test images; listed by default.

    Raises:
        BadClassNames: no names, one name, a repeated name, or a file that is not text.
    """
    if spec.classes is not None:
        return check_classes(given_classes(spec.classes), f"--classes {redact(spec.classes)[:80]}")
    sources = list_sources(spec) if sources is None else sources
    for uri in (uri for source in sources for uri in source.tables()[:1]):
        if names := names_of_schema(uri, read_schema(uri)):
            return check_classes(names, f"the metadata of {redact(uri)}")
    if spec.labels is None:
        msg = "no class names: give --classes FILE or --classes a,b,c"
        raise NoClassNames(msg)
    return check_classes(label_names(spec, sources), f"--labels {redact(spec.labels)}")


def list_sources(spec: PoolSpec) -> list[Source]:
    """List the images and, if they are separate, the test images."""
    return [list_source(uri) for uri in (spec.images, spec.test) if uri is not None]


def check_input(spec: PoolSpec) -> Understood:
    """Check images, class names and labels before a run; return what they were understood to be.

    Images are listed and not read; `open_images` finds the same problems and more.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    sources = list_sources(spec)
    classes = read_classes(spec, sources)
    check_labels(spec, sources, classes)
    origin = f"--classes {redact(spec.classes)[:80]}" if spec.classes else "the images or labels"
    return Understood(tuple(sources), ClassList(names=classes, origin=origin))


def label_names(spec: PoolSpec, sources: Sequence[Source]) -> list[str]:
    """Return the distinct names of labels, sorted.

    Raises:
        BadLabels: there is no such column or file, or Parquet files are to have folders.
    """
    names: set[str] = set()
    if spec.labels == FOLDERS:
        source = _source_with_folders(sources)
        names.update(filter(None, map(folder_of, _relative_names(source))))
    elif spec.labels == COLUMN:
        for uri in _labelled_tables(sources):
            names.update(_distinct(read_labels(uri)))
    elif spec.labels is not None:
        for table in iter_label_file(spec.labels):
            names.update(_distinct(table["label"]))
    return sorted(names)


def check_labels(spec: PoolSpec, sources: Sequence[Source], classes: Sequence[str]) -> None:
    """Check labels before any image is read.

    Raises:
        BadLabels: as `label_names`, or labels that are no class names, which the message lists.
    """
    if spec.labels is None:
        return
    names = label_names(spec, sources)
    origin = f"--labels {redact(spec.labels)}"
    if not names:
        msg = f"{origin}: expected a label for some images, got none; check the folders or the file"
        raise BadLabels(msg)
    if unknown := sorted(set(names) - set(classes)):
        msg = (
            f"{origin}: {list_names(unknown)} not among the {len(classes)} class names "
            f"({', '.join(classes[:5])}, ...); add to --classes or correct the labels"
        )
        raise BadLabels(msg)


def folder_of(name: str) -> str | None:
    """Return the last folder of a relative name; None without folders."""
    folders = name.split("/")[:-1]
    return folders[-1] if folders else None


def relative(uri: str, root: str) -> str:
    """Return a URI relative to a folder, or unchanged if it is outside of the folder."""
    return uri.removeprefix(base_of(root))


def base_of(root: str) -> str:
    """Return the beginning of the URIs that lie in a folder."""
    return root.rstrip("/") + "/"


def read_labels(uri: str, *, first: int = 0, rows: int = -1) -> pa.ChunkedArray:
    """Return the labels of some rows of a Parquet file as texts.

    Numbers become names if the metadata has a list of them (`classes`, or the features of Hugging
    Face datasets); a negative number means no label.

    Args:
        uri: The file, with a column `label`.
        first: Number of the first row.
        rows: Number of rows, all by default.
    """
    column = read_columns(uri, ["label"], first=first, rows=rows)["label"]
    if not pa.types.is_integer(column.type):
        return column.cast(pa.string())
    names = names_of_schema(uri, read_schema(uri))
    has_label = pc.greater_equal(column, 0)
    if not names:
        return pc.if_else(has_label, column.cast(pa.string()), pa.scalar(None, pa.string()))
    numbers = pc.if_else(pc.and_(has_label, pc.less(column, len(names))), column, None)
    return pa.chunked_array([pa.array(names).take(numbers.combine_chunks())])


def iter_label_file(uri: str) -> Iterator[pa.Table]:
    """Yield tables of texts (uri, label) from a CSV or Parquet file, one batch at a time.

    Raises:
        BadLabels: the file is absent, of another format, or lacks one of the two columns.
    """
    if not exists(uri):
        msg = f"--labels {redact(uri)}: expected 'folders', 'column' or a file, got no such file"
        raise BadLabels(msg)
    try:
        with open_read(uri) as file:
            yield from (
                _parquet_labels(file) if uri.endswith((".parquet", ".pq")) else _csv_labels(file)
            )
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError, OSError) as error:
        msg = f"--labels {redact(uri)}: expected a CSV or Parquet file with columns uri and label "
        raise BadLabels(msg + f"({one_line(error)}); repair the file") from error


def _parquet_labels(file: Any) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as parquet:
        _check_columns(parquet.schema_arrow.names)
        for batch in parquet.iter_batches(columns=["uri", "label"]):
            yield _texts(pa.Table.from_batches([batch]))


def _csv_labels(file: Any) -> Iterator[pa.Table]:
    texts = {"uri": pa.string(), "label": pa.string()}  # or the class "007" would become 7
    options = pv.ConvertOptions(
        column_types=texts, include_columns=list(texts), null_values=[""], strings_can_be_null=True
    )
    for batch in pv.open_csv(file, convert_options=options):
        yield _texts(pa.Table.from_batches([batch]))


def _check_columns(names: Sequence[str]) -> None:
    if missing := [name for name in ("uri", "label") if name not in names]:
        msg = f"no column {' and '.join(missing)} among {', '.join(names)}"
        raise KeyError(msg)


def _texts(table: pa.Table) -> pa.Table:
    columns = [table[name].cast(pa.string()) for name in ("uri", "label")]
    return pa.table(columns, names=["uri", "label"])


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


def _relative_names(source: Source) -> Iterator[str]:
    for chunk in source.listing["uri"].chunks:
        yield from (relative(uri, source.root) for uri in chunk.to_pylist())


def _labelled_tables(sources: Sequence[Source]) -> Iterator[str]:
    for source in sources:
        is_evaluated = source is sources[-1]
        if is_evaluated and source.kind == "images":
            msg = f"--labels column: {source.uri} holds image files; use --labels folders or a file"
            raise BadLabels(msg)
        for uri in source.tables():
            names = read_schema(uri).names
            if "label" in names:
                yield uri
            elif is_evaluated:
                msg = (
                    f"--labels column: expected a column label in {redact(uri)}, "
                    f"got {', '.join(names)}; rename the column, or leave --labels out"
                )
                raise BadLabels(msg)


def _distinct(labels: pa.ChunkedArray) -> list[str]:
    return cast("list[str]", pc.unique(labels).drop_null().to_pylist())
