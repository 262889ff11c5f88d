"""A small finished workspace, written by `tasks.storage` alone: no Ray, no model."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.images.quarantine import SCHEMA as QUARANTINE
from tasks.pool.catalog import IMAGES
from tasks.pool.given_labels import LABELLED
from tasks.query.sandbox import run_sql
from tasks.storage.columns import fixed_size_list
from tasks.storage.digests import classes_digest, fingerprint
from tasks.storage.files import remove
from tasks.storage.layout import claim_workspace
from tasks.storage.manifest import MANIFEST, read_manifest, write_manifest
from tasks.storage.ranges import span_of_keys
from tasks.storage.schemas import LABELS, PREDICTIONS
from tasks.storage.uris import join, local_path
from tests.worlds.stages import cut, stage

CLASSES = ["cat", "dog", "x'); DROP--"]


def image_id(number: int) -> str:
    """Return an id like a hash; ids rise with the numbers."""
    return f"{number:04x}{hashlib.sha256(str(number).encode()).hexdigest()[4:]}"


@dataclass
class Made:
    """What was written, for comparison."""

    uri: str
    ids: list[str]
    vectors: np.ndarray
    labels: list[str]


def age(folder: str, seconds: int) -> None:
    """Make a local stage look as if it had been finished some seconds ago."""
    path = local_path(join(folder, MANIFEST))
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def unit_vectors(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_pool(
    uri: str, digest: str, numbers: list[int], *, parts_of: int = 16, folder: str = "photos"
) -> list[str]:
    """Write a pool of images with one exact duplicate at its end and one bad file."""
    claim_workspace(uri)
    ids = [image_id(number) for number in numbers]
    rows = [
        {
            "image_id": name,
            "uri": f"{folder}/{number}.png",
            "name": f"{number}.png",
            "width": 8,
            "height": 8,
            "bytes": 100 + number,
            "split": "test" if number % 5 == 0 else "pool",
            "duplicate_of": None,
        }
        for number, name in zip(numbers, ids, strict=True)
    ]
    copy = {**rows[0], "uri": f"{folder}/copy.png", "duplicate_of": rows[0]["uri"]}
    rows.insert(1, copy)  # behind the first of its content
    home = join(uri, "pool", digest)
    bad = {"uri": "bad.png", "stage": "pool", "reason": "truncated", "detail": "", "bytes": 3}
    quarantine = join(home, "quarantine")
    refused = pa.Table.from_pylist([bad], QUARANTINE)
    stage(quarantine, [refused], kind="quarantine", digest=digest)
    tables = cut(pa.Table.from_pylist(rows, IMAGES), parts_of)
    stage(home, tables, kind="pool", digest=digest, facts={"content": content_of(ids)})
    write_task(uri, f"t{digest[1:]}", ids, [CLASSES[number % 3] for number in numbers])
    return ids


def content_of(ids: list[str]) -> str:
    """Return the digest of images by their ids."""
    return fingerprint(ids)


def write_task(
    uri: str, digest: str, ids: list[str], labels: list[str], classes: list[str] = CLASSES
) -> None:
    """Write classes, and the true labels of all images."""
    table = pa.table([ids, ["pool"] * len(ids), labels], schema=LABELLED)
    facts = {"images": content_of(ids), "classes": classes}
    stage(join(uri, "tasks", digest), [table], kind="tasks", digest=digest, facts=facts)


def write_embeddings(  # noqa: PLR0913
    uri: str,
    digest: str,
    ids: list[str],
    vectors: np.ndarray,
    *,
    parts_of: int = 16,
    backbone: str = "embedded",
    learned: str = "",
    images: list[str] | None = None,
) -> None:
    """Write the embeddings of images, as of a run about them or about more of them."""
    tables = [
        pa.table(
            {
                "image_id": pa.array(ids[start : start + parts_of], pa.string()),
                "embedding": fixed_size_list(vectors[start : start + parts_of]),
            }
        )
        for start in range(0, len(ids), parts_of)
    ]
    header = {"backbone": backbone, "weights_sha256": "0", "learned": learned}
    home = join(uri, "embeddings", digest)
    stage(home, tables, kind="embeddings", digest=digest, header=header)
    manifest = read_manifest(home)
    assert manifest is not None
    own = ids if images is None else images
    update = {"facts": {"images": content_of(own)}, "rows": len(own)}
    write_manifest(join(home, "runs", content_of(own)), manifest.model_copy(update=update))
    remove(join(home, MANIFEST))


def part_of(uri: str, ids: list[str]) -> str:
    """Return the file of the embeddings of some images."""
    return join(uri, "embeddings", "e" * 16, span_of_keys(pa.array(ids)).file_name("e" * 16))


def write_labels(  # noqa: PLR0913
    uri: str,
    digest: str,
    source: str,
    ids: list[str],
    names: list[str],
    *,
    confidence: list[float] | None = None,
    parts_of: int = 16,
    classes: list[str] = CLASSES,
) -> None:
    rows = [
        {
            "image_id": name,
            "source": source,
            "label": label,
            "confidence": 0.5 if confidence is None else confidence[row],
            "gap": None if source == "zero-shot" else 0.25,
            "kept": row % 2 == 0,
            "reason": "" if row % 2 == 0 else "no",
        }
        for row, (name, label) in enumerate(zip(ids, names, strict=True))
    ]
    table = pa.Table.from_pylist(rows, LABELS)
    facts = {"kept": 0, **about(ids, classes)}
    folder = join(uri, "labels", digest)
    stage(folder, cut(table, parts_of), kind="labels", digest=digest, facts=facts)


def about(ids: list[str], classes: list[str] = CLASSES) -> dict[str, str]:
    """Return what labels and predictions say that they are about."""
    return {"images": content_of(ids), "classes": classes_digest(classes)}


def write_predictions(
    uri: str, digest: str, ids: list[str], rows: list[dict[str, Any]], *, parts_of: int = 16
) -> None:
    full = [
        {"image_id": name, "uri": "u", "split": "pool", **row}
        for name, row in zip(ids, rows, strict=True)
    ]
    table = pa.Table.from_pylist(full, PREDICTIONS)
    folder = join(uri, "predictions", digest)
    stage(folder, cut(table, parts_of), kind="predictions", digest=digest, facts=about(ids))


def write_workspace(uri: str, *, rows: int = 48, dim: int = 8) -> Made:
    """Write a pool with embeddings, zero-shot labels, two peers and predictions."""
    ids = write_pool(uri, "p" * 16, list(range(rows)))
    vectors = unit_vectors(rows, dim)
    vectors[7] = vectors[3] + 1e-3  # a near duplicate in one part
    vectors[40] = vectors[5] - 2e-3  # and one across parts
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_embeddings(uri, "e" * 16, ids, vectors)
    labels = [CLASSES[number % 3] for number in range(rows)]
    write_labels(uri, "a" * 16, "zero-shot", ids, labels)
    write_labels(uri, "b" * 16, "peer-1", ids, labels)
    write_labels(uri, "c" * 16, "peer-2", ids, labels)
    sure = [
        {
            "label": label,
            "confidence": 0.9,
            "probabilities": [0.9 if name == label else 0.05 for name in CLASSES],
            "member_labels": [label, label],
        }
        for label in labels
    ]
    # Image 2: members differ, both sure. Image 4: adapted differs from zero-shot.
    sure[2] |= {"probabilities": [0.01, 0.48, 0.51], "confidence": 0.51}
    sure[2] |= {"member_labels": [CLASSES[2], CLASSES[1]]}
    sure[4] |= {"label": CLASSES[0], "member_labels": [CLASSES[0]] * 2, "confidence": 0.8}
    write_predictions(uri, "d" * 16, ids, sure)
    return Made(uri, ids, vectors, labels)


def value(workspace: str, sql: str, **others: str) -> object:
    """Return the first value that a query of the workspace answers."""
    return run_sql(workspace, sql, **others).column(0)[0].as_py()


def cosines(made: Made) -> np.ndarray:
    """Return the similarity of each image with each."""
    return made.vectors @ made.vectors.T
