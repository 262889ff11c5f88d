"""Stages made by hand: features of three colours, cut into any number of files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, TaskRef
from tasks.storage.columns import fixed_size_list
from tasks.storage.manifest import Part, make_manifest, part_name, write_manifest
from tasks.storage.ranges import span_of_keys
from tasks.storage.tables import write_table
from tasks.storage.uris import join

CLASSES = ("red", "green", "blue")
COUNT = 70
SCALE = 20.0


def stage(
    folder: str | Path,
    tables: list[pa.Table],
    *,
    kind: str = "test",
    digest: str = "0123456789abcdef",
    header: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Write tables as the parts of a finished stage and return its URI."""
    prefix = "images/" if kind == "pool" else ""
    parts = []
    for number, table in enumerate(tables):
        name = prefix + name_of(table, number, digest)
        write_table(join(str(folder), name), table, {"digest": digest, **(header or {})})
        parts.append(Part(name=name, rows=table.num_rows))
    manifest = make_manifest(kind, digest, parts)
    write_manifest(str(folder), manifest.model_copy(update={"facts": dict(facts or {})}))
    return str(folder)


def name_of(table: pa.Table, number: int, digest: str) -> str:
    """Return the name of a part: by its ids, if it has some."""
    if "image_id" not in table.column_names or not table.num_rows:
        return part_name(number, digest)
    return span_of_keys(table["image_id"]).file_name(digest)


def cut(table: pa.Table, rows: int) -> list[pa.Table]:
    """Cut a table into pieces of so many rows."""
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


def images(dim: int) -> tuple[pa.Table, pa.Table, torch.Tensor]:
    """Return (images, embeddings, class embeddings) by id; one is a copy, a few are for testing."""
    draws = np.random.default_rng(0)
    labels = np.arange(COUNT) % len(CLASSES)
    centres = F.normalize(torch.from_numpy(draws.normal(size=(len(CLASSES), dim))).float(), dim=1)
    noise = 0.1 * torch.from_numpy(draws.normal(size=(COUNT, dim))).float()
    features = F.normalize(centres[torch.from_numpy(labels)] + noise, dim=1)
    ids = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(COUNT))
    pool = pa.table(
        {
            "image_id": ids,
            "uri": [f"memory://{image}" for image in ids],
            "name": ids,
            "split": ["test" if number % 9 == 0 else "pool" for number in range(COUNT)],
            "label": [CLASSES[label] for label in labels],  # of the task, not of the files
            "duplicate_of": pa.array([None] * (COUNT - 1) + ["copy"], pa.string()),
        }
    )
    embeddings = pa.table({"image_id": ids, "embedding": fixed_size_list(features.numpy())})
    return pool, embeddings, centres


def write_stages(
    folder: Path, rows: int, dim: int
) -> tuple[tuple[ImagesRef, TaskRef], EmbeddingsRef, LabelsRef, torch.Tensor]:
    """Write images, features and the class embeddings of zero-shot, with so many rows in a file."""
    table, embeddings, centres = images(dim)
    (folder / "zero-shot").mkdir(parents=True)
    tensors = {"embeddings": centres, "logit_scale": torch.tensor(SCALE)}
    save_file(tensors, folder / "zero-shot" / "classes.safetensors")
    ref = ImagesRef(
        uri=stage(folder / "pool", cut(table.drop_columns(["label"]), rows)),
        digest="images",
        num_pool=0,
        num_test=0,
        num_duplicates=1,
        num_quarantined=0,
    )
    labels = table.select(["image_id", "split", "label"])
    task = TaskRef(
        uri=stage(folder / "task", cut(labels, rows + 1)),  # cut elsewhere
        digest="task",
        classes=CLASSES,
        labeled=True,
    )
    uri = stage(folder / "features", cut(embeddings, rows))
    features = EmbeddingsRef(uri=uri, digest="features", rows=COUNT, dim=dim, model="test")
    zero_shot = LabelsRef(uri=str(folder / "zero-shot"), digest="zero", source="zero-shot")
    return (ref, task), features, zero_shot, centres
