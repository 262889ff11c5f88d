"""Two peers that differ and know nothing, and images as each of them sees them."""

from pathlib import Path

import pyarrow as pa
import torch

from clipcore import checkpoint
from tasks.refs import EmbeddingsRef, ImagesRef, PeerRef, TaskRef
from tasks.storage.columns import fixed_size_list
from tasks.storage.files import write_bytes
from tasks.storage.layout import WEIGHTS
from tasks.storage.uris import join
from tests.worlds.stages import CLASSES, COUNT, cut, images, stage, write_stages
from tests.worlds.tensors import random_features

DIM = 8
SCALE = 20.0


def write_peer(folder: Path, number: int) -> tuple[PeerRef, dict[str, torch.Tensor]]:
    tensors = {
        "positive": random_features(len(CLASSES), DIM, 10 * number),
        "negative": random_features(len(CLASSES), DIM, 10 * number + 1),
        "logit_scale": torch.tensor(SCALE),
    }
    write_bytes(join(str(folder), WEIGHTS), checkpoint.to_bytes(tensors, {}))
    return PeerRef(uri=str(folder), digest=f"peer-{number}", peer=number, phase=1), tensors


def write_features(folder: Path, number: int, rows: int) -> tuple[EmbeddingsRef, torch.Tensor]:
    features = random_features(COUNT, DIM, 100 + number)
    ids = images(DIM)[0]["image_id"]
    table = pa.table({"image_id": ids, "embedding": fixed_size_list(features.numpy())})
    ref = EmbeddingsRef(
        uri=stage(folder, cut(table, rows)),
        digest=f"features-{number}",
        rows=COUNT,
        dim=DIM,
        model="test",
    )
    return ref, features


About = tuple[ImagesRef, TaskRef]
World = tuple[About, list[PeerRef], list[EmbeddingsRef], list[dict[str, torch.Tensor]]]


def write_world(folder: Path) -> World:
    """Return images and classes, two peers that know nothing, and what each of them sees."""
    pool, *_ = write_stages(folder, 16, DIM)
    refs, seen, tensors = [], [], []
    for number in (1, 2):
        ref, weights = write_peer(folder / f"peer-{number}", number)
        features, vectors = write_features(folder / f"features-{number}", number, 16)
        refs.append(ref)
        seen.append(features)
        tensors.append({**weights, "features": vectors})
    return pool, refs, seen, tensors
