"""The demo's images: scikit-learn's handwritten digits as one Parquet file, as a person has it."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tasks.storage.files import write_changed

CLASSES = tuple(
    f"digit {name}"
    for name in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
_NUM_TEST = 500  # of 1,797
_LEVELS = 16  # of grey, above zero


def write_digits(uri: str) -> str:
    """Write the digits to a Parquet file and return its URI; equal calls write equal bytes.

    Columns: name, image (PNG bytes, 8 x 8, grey, light on dark), label (one of `CLASSES`), split
    (`pool`, or `test` for a fixed, stratified 500). The classes are in the schema metadata.
    """
    digits = load_digits()
    test = held_out(digits.target)
    table = pa.table(
        {
            "name": [f"digit-{row:04}.png" for row in range(len(digits.target))],
            "image": pa.array([_png(levels) for levels in digits.images], pa.binary()),
            "label": [CLASSES[target] for target in digits.target],
            "split": ["test" if held else "pool" for held in test],
        }
    )
    table = table.replace_schema_metadata({"classes": json.dumps(CLASSES)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_changed(uri, buffer.getvalue())
    return uri


def held_out(targets: np.ndarray) -> np.ndarray:
    """Return which of the scans are for testing: a fixed, stratified 500."""
    rows = np.arange(len(targets))
    _, test = train_test_split(rows, test_size=_NUM_TEST, stratify=targets, random_state=0)
    return np.isin(rows, test)


def _png(levels: np.ndarray) -> bytes:
    """Encode grey levels 0 to 16 of shape (8, 8) as a PNG of 0 to 255."""
    pixels = (levels * 255 / _LEVELS).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
