"""A few images, opened in this process or by workers."""

from pathlib import Path
from typing import Any

from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import join


def tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, given by their names relative to the root, and return the root."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def opened(images: Path | str, runtime: RuntimeSpec, **others: Any) -> tuple[ImagesRef, TaskRef]:
    """Open images with the classes a and b; `others` are further settings."""
    spec = PoolSpec(images=str(images), **{"classes": "a,b", **others})
    ref = open_images.fn(spec, runtime)
    return ref, open_task.fn(ref, spec, runtime)


def images_of(images: Path | str, runtime: RuntimeSpec, **others: Any) -> ImagesRef:
    """Open images; `others` are further settings."""
    spec = PoolSpec(images=str(images), **{"classes": "a,b", **others})
    return open_images.fn(spec, runtime)


def rows_of(ref: ImagesRef) -> list[dict[str, Any]]:
    """Return the rows of the images by URI."""
    rows = [row for table in iter_tables(ref.uri) for row in table.to_pylist()]
    return sorted(rows, key=lambda row: str(row["uri"]))


def bad_rows_of(ref: ImagesRef) -> list[dict[str, Any]]:
    return [row for table in iter_tables(join(ref.uri, QUARANTINE)) for row in table.to_pylist()]


def labels_of(ref: ImagesRef, task: TaskRef) -> dict[str, str | None]:
    """Return the true label of each image by its URI, None where there is none."""
    rows = [row for table in iter_tables(task.uri) for row in table.to_pylist()]
    labels = {row["image_id"]: row["label"] for row in rows}
    return {row["uri"]: labels.get(row["image_id"]) for row in rows_of(ref)}


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [Path(row["uri"]).name for row in rows]
