"""What a run is about, checked before any image is read: images, class names, and true labels."""

from collections.abc import Sequence
from typing import cast

import pyarrow.compute as pc

from tasks.images.parquet import read_schema
from tasks.images.sources import Source, list_source
from tasks.pool.classes import (
    NoClassNames,
    check_classes,
    given_classes,
    names_of_schema,
    numbered,
)
from tasks.pool.label_counts import count_labels, iter_named
from tasks.pool.label_file import read_label_file
from tasks.pool.splits import find_splits
from tasks.pool.understood import ClassList, Understood
from tasks.specs import COLUMN, FOLDERS, PoolSpec
from tasks.storage.uris import redact


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
    splits = find_splits(sources[0], spec.split_folders, strict=spec.test is None)
    is_split = bool(splits)
    classes = read_class_list(spec, sources, is_split=is_split)
    labels = (
        None
        if spec.labels is None
        else count_labels(spec, sources, classes.names, is_split=is_split)
    )
    return Understood(tuple(sources), classes, labels, splits)


def read_classes(spec: PoolSpec, sources: Sequence[Source] | None = None) -> tuple[str, ...]:
    """Return the class names; takes and raises what `read_class_list` does."""
    return read_class_list(spec, sources).names


def read_class_list(
    spec: PoolSpec, sources: Sequence[Source] | None = None, *, is_split: bool | None = None
) -> ClassList:
    """Return the given class names, else those in Parquet metadata, else the names of labels.

    Args:
        spec: `classes` is a file (`annotations/class_list.py` says what is read), or names split by
            commas.
        sources: The images and the test images; listed by default.
        is_split: Whether first folders are splits; found out by default.

    Raises:
        BadClassNames: no names, one name, a repeated name, or a file that is not certain.
    """
    if spec.classes is not None:
        origin = f"--classes {redact(spec.classes)[:80]}"
        given = given_classes(spec.classes, spec.class_column)
        unit = "line" if given.reading else "name"
        return ClassList(
            names=check_classes(given.names, origin, unit),
            origin=origin,
            reading=given.reading,
            descriptions=given.descriptions,
        )
    sources = list_sources(spec) if sources is None else sources
    for uri in (uri for source in sources for uri in source.tables()[:1]):
        if found := names_of_schema(uri, read_schema(uri)):
            origin = f"the metadata of {redact(uri)}"
            return ClassList(names=check_classes(numbered(found), origin, "name"), origin=origin)
    if spec.labels is None:
        msg = "no class names: give --classes FILE or --classes a,b,c"
        raise NoClassNames(msg)
    origin = f"--labels {redact(spec.labels)}"
    names = numbered(label_names(spec, sources, is_split=is_split))
    return ClassList(names=check_classes(names, origin, "name"), origin=origin)


def label_names(
    spec: PoolSpec, sources: Sequence[Source], *, is_split: bool | None = None
) -> list[str]:
    """Return the distinct names of labels, sorted.

    Raises:
        BadLabels: there is no such column or file, or Parquet files are to have folders.
    """
    names: set[str] = set()
    if spec.labels in (COLUMN, FOLDERS):
        if is_split is None:
            is_split = bool(find_splits(sources[0], spec.split_folders, strict=False))
        for _, labels in iter_named(spec, sources, is_split=is_split):
            names.update(cast("list[str]", pc.unique(labels).drop_null().to_pylist()))
    elif spec.labels is not None:
        for table in read_label_file(spec, ()):
            names.update(label.strip() for label in pc.unique(table["label"]).to_pylist())
    return sorted(names)
