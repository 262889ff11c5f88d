"""What images are sorted into: classes, and true labels for evaluation in files of their own."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from tasks.annotations.spelling import Names
from tasks.images.sources import Source
from tasks.pool.given_labels import LABELLED, iter_given
from tasks.pool.label_file import BadLabels
from tasks.pool.listed import take_images
from tasks.pool.true_labels import read_classes
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import COLUMN, FOLDERS, PoolSpec, RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.manifest import Part
from tasks.storage.ranges import span_of_keys
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import write_table
from tasks.storage.uris import join, redact


@step("task")
def open_task(images: ImagesRef, spec: PoolSpec, runtime: RuntimeSpec) -> TaskRef:
    """Return the classes of a run, and write the true labels of its images; no image is read.

    Raises:
        InputError: there are no class names, or none of the images that accuracy is measured on
            has a label.
    """
    found = take_images(images.uri)
    sources = None if found is None else found.sources
    classes = read_classes(spec) if found is None else found.classes.names
    of_file = spec.labels is not None and spec.labels not in (COLUMN, FOLDERS)
    origin = (content_hash(str(spec.labels)), spec.label_columns) if of_file else spec.labels
    key = fingerprint(Folder.TASKS, images.uri.rpartition("/")[2], images.digest, classes, origin)
    folder = in_workspace(runtime.workspace, Folder.TASKS, key)
    manifest, resumed = once(
        folder,
        kind=Folder.TASKS,
        digest=key,
        label="Task",
        compute=lambda: _write(folder, images, spec, classes, sources),
    )
    return TaskRef(
        uri=folder,
        digest=fingerprint(Folder.TASKS, images.digest, classes, manifest.facts["content"]),
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        classes=classes,
        labeled=spec.labels is not None,
    )


def _write(
    folder: str,
    images: ImagesRef,
    spec: PoolSpec,
    classes: Sequence[str],
    sources: Sequence[Source] | None,
) -> Outcome:
    """Write the true labels, in parts by id; without labels there is no part."""
    content, parts, counts = hashlib.sha256(), list[Part](), Counter[str]()
    tables = iter_given(images, spec, classes, sources) if spec.labels is not None else iter(())
    for table in _first_of_each(_known(tables, classes)):
        lines = "".join(f"{row['image_id']} {row['label']}\n" for row in table.to_pylist())
        content.update(lines.encode())
        name = span_of_keys(table["image_id"]).file_name(content.hexdigest())
        write_table(join(folder, name), table)
        parts.append(Part(name=name, rows=table.num_rows))
        counts.update(table["split"].to_pylist())
    _check_labelled(images, spec, counts)
    of_labels = content.hexdigest() if spec.labels is not None else None
    facts: dict[str, JsonValue] = {"content": of_labels, "classes": list(classes)}
    return Outcome(parts, {**facts, "images": images.digest})


def _known(tables: Iterable[pa.Table], classes: Sequence[str]) -> Iterator[pa.Table]:
    """Write labels as the classes that they mean; drop what has none."""
    names = Names(classes)
    for table in tables:
        labels = names.find_all(table["label"])
        known = table.set_column(table.column_names.index("label"), "label", labels)
        known = known.filter(labels.is_valid())
        if known.num_rows:
            yield known


def _first_of_each(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Keep the first row of each id, of tables sorted by id: of equal images one label counts."""
    last = None
    for table in tables:
        ids = table["image_id"].to_numpy()
        is_first = np.append(ids[:1] != last, ids[1:] != ids[:-1])
        last = ids[-1]
        if is_first.any():
            yield table.filter(pa.array(is_first)).cast(LABELLED)


def _check_labelled(images: ImagesRef, spec: PoolSpec, labelled: Counter[str]) -> None:
    split, count = ("test", images.num_test) if images.num_test else ("pool", images.num_pool)
    if spec.labels is not None and not labelled[split] and count:
        msg = (
            f"--labels {redact(spec.labels)}: none of the {count:,} images that "
            "accuracy is measured on has a label; compare the names in it with those of the images"
        )
        raise BadLabels(msg)
