"""Arrow columns to tensors and back: vectors, numbers, class names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.on_demand import OnDemand

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # who asks about a workspace needs the columns alone
    torch = OnDemand("torch")


def fixed_size_list(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """Return vectors of shape (rows, dim) as a column without nulls: fp16 stays, else fp32."""
    values = vectors if vectors.dtype == np.float16 else vectors.astype(np.float32)
    values = pa.array(np.ascontiguousarray(values).ravel())
    field = pa.field("item", values.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(field, vectors.shape[1]))


def matrix_of(table: pa.Table, column: str = "embedding") -> "Tensor":
    """Return a column of vectors as a tensor of shape (rows, dim) that owns its memory."""
    vectors = table[column].combine_chunks()
    dim = table.schema.field(column).type.list_size
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(flat.reshape(-1, dim).copy())


def tensor_of(table: pa.Table, column: str) -> "Tensor":
    """Return a column of numbers without nulls as a tensor that owns its memory."""
    return torch.from_numpy(table[column].to_numpy().copy())


def class_names(classes: Sequence[str], numbers: "Tensor") -> pa.Array:
    """Return the name of each class number as a column."""
    return pa.array(classes, pa.string()).take(pa.array(numbers.numpy()))


def class_numbers(classes: Sequence[str], names: Any) -> "Tensor":
    """Return the number of each class name of a column, -1 where there is none."""
    positions = pc.index_in(names, pa.array(classes, pa.string())).fill_null(-1)
    return torch.from_numpy(positions.to_numpy().astype(np.int64))
