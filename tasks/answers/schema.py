"""Columns of queries and of merged answers."""

import pyarrow as pa

QUERY = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("gap", pa.float32()),
        ("reason", pa.string()),
        ("position", pa.int32()),
        ("round", pa.int32()),
        ("likely", pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))),
    ]
)
ASKED = QUERY.append(pa.field("features", pa.list_(pa.float16())))  # to find images that look alike
MERGED = pa.schema(
    [
        ("image_id", pa.string()),
        ("kind", pa.string()),  # label, none, skip or conflict
        ("label", pa.string()),
        ("num_annotators", pa.int32()),
        ("votes", pa.string()),
    ]
)
