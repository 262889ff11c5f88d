"""All features of a run at once, for methods that look at all images together."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.pool.readers import value_of
from tasks.pool.shards import shards
from tasks.refs import EmbeddingsRef, ImagesRef


def read_all(images: ImagesRef, embeddings: EmbeddingsRef) -> tuple[pa.Array, np.ndarray, Tensor]:
    """Return ids in rising order, which of them are for testing, and their features.

    They take 4 bytes for each number: 1.5 GB for a million images of 384.
    """
    parts = [_part(shard) for shard in shards(images, embeddings)]
    ids, is_test, features = zip(*parts, strict=True)
    return pa.concat_arrays(ids), np.concatenate(is_test), torch.cat(features)


def _part(shard: Any) -> tuple[pa.Array, np.ndarray, Tensor]:
    ids, vectors = shard.features()
    split = value_of(shard.read_images(["image_id", "split"]), ids, "split")
    return ids, pc.equal(split, "test").to_numpy(zero_copy_only=False), vectors
