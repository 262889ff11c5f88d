"""Vectors in Arrow: fixed-size lists without nulls, to and from tensors."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tasks import shards


def fixed_size_list(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """Return vectors of shape (rows, dim) as a float32 column without nulls."""
    field = pa.field("item", pa.float32(), nullable=False)
    values = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(field, vectors.shape[1]))


def read_features(uri: str) -> tuple[pa.Array, Tensor]:
    """Return the ids and the features, fp32 of shape (images, dim), of one part of embeddings."""
    table = shards.read_table(uri, ["image_id", "embedding"]).combine_chunks()
    vectors = table["embedding"].combine_chunks()
    dim = table.schema.field("embedding").type.list_size
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return table["image_id"].combine_chunks(), torch.from_numpy(flat.reshape(-1, dim).copy())
