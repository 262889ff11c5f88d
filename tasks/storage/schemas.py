"""Columns of files that other rooms read: labels of one source, and predictions."""

import pyarrow as pa

LABELS = pa.schema(
    [
        ("image_id", pa.string()),
        ("source", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("gap", pa.float32()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)
PREDICTIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("runner_up", pa.string()),
        ("runner_up_confidence", pa.float32()),
        ("none_of_these", pa.float32()),  # see `clipcore.energy`
        ("probabilities", pa.list_(pa.float32())),
        ("member_labels", pa.list_(pa.string())),
    ]
)
