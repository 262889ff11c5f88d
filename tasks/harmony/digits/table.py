"""Features of samples as a table: what a modality is read from."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.harmony.files import EMBEDDING, LABEL, MODALITY, SAMPLE, SPLIT

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def table_of(
    modality: str,
    names: Sequence[str],
    labels: Sequence[int],
    splits: Sequence[str],
    features: np.ndarray,
) -> pa.Table:
    """Return a table of samples of one modality.

    Its columns are those of `tasks.harmony.files`, the features in float16; the classes are in the
    schema metadata.

    Args:
        modality: Its name.
        names: Of the samples.
        labels: Positions in `CLASSES`.
        splits: `train` or `test` of each sample.
        features: Of shape (samples, width).
    """
    numbers = pa.array(features.astype(np.float16).ravel())
    table = pa.table(
        {
            SAMPLE: [f"{modality}/{name}" for name in names],
            MODALITY: [modality] * len(names),
            LABEL: [CLASSES[label] for label in labels],
            SPLIT: list(splits),
            EMBEDDING: pa.FixedSizeListArray.from_arrays(numbers, features.shape[1]),
        }
    )
    return table.replace_schema_metadata({"classes": json.dumps(CLASSES)})


def as_parquet(tables: Sequence[pa.Table]) -> bytes:
    """Return tables of one schema as one Parquet file, each in row groups of its own."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, tables[0].schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    return buffer.getvalue()
