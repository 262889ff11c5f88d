"""Features of three classes in several modalities, which a mean of each class tells apart."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("cat", "dog", "car")
WIDTHS = {"photo": 12, "sketch": 12, "sound": 9}
TRAIN, TEST = 60, 30


def rows_of(modality: str, /, *, seed: int = 0, **changes: object) -> pa.Table:
    """Return rows of a modality, train before test.

    Args:
        modality: A key of `WIDTHS`; its classes lie elsewhere than those of the others.
        seed: Of the noise.
        changes: Columns that are other than usual.
    """
    count, width = TRAIN + TEST, WIDTHS[modality]
    places = np.random.default_rng(sum(map(ord, modality))).normal(0, 2, (len(CLASSES), width))
    labels = np.arange(count) % len(CLASSES)
    noise = np.random.default_rng(seed).normal(0, 1, (count, width))
    vectors = (places[labels] + noise).astype(np.float32)
    columns: dict[str, object] = {
        "sample_id": [f"{modality}-{row:03}" for row in range(count)],
        "modality": [modality] * count,
        "embedding": vectors.tolist(),
        "label": [CLASSES[label] for label in labels],
        "split": ["train"] * TRAIN + ["test"] * TEST,
    }
    table = pa.table({**columns, **changes})
    return table.set_column(2, "embedding", table["embedding"].cast(pa.list_(pa.float32())))


def write_rows(path: Path, *tables: pa.Table, classes: tuple[str, ...] | None = CLASSES) -> str:
    """Write tables as one Parquet file, a row group each, and return its path."""
    metadata: Mapping[str, str] = {} if classes is None else {"classes": json.dumps(classes)}
    with pq.ParquetWriter(path, tables[0].schema.with_metadata(metadata)) as writer:
        for table in tables:
            writer.write_table(table.cast(writer.schema))
    return str(path)
