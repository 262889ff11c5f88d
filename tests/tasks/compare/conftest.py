"""What the tests of the arena share: sources that are written by hand."""

from pathlib import Path

import pytest
import torch

from tasks.compare.cells import Sources
from tasks.refs import BackboneRef
from tasks.sentences.embedded import FILE, TextRef
from tasks.storage.checkpoints import write_tensors
from tests.worlds.stages import SCALE, write_stages

DIM = 8


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Return images of three colours in files of seven, their features, and class sentences."""
    (pool, task), embeddings, _, centres = write_stages(tmp_path, 7, DIM)
    tensors = {"sentences": centres[None], "logit_scale": torch.tensor(SCALE)}
    write_tensors(str(tmp_path / "text"), FILE, tensors, {})
    text = TextRef(uri=str(tmp_path / "text"), digest="text")
    backbone = BackboneRef(
        name="embedded",
        kind="timm",
        embed_dim=DIM,
        image_size=1,
        quick_gelu=False,
        weights_sha256="",
        preprocess_hash="",
    )
    return Sources(pool, embeddings, task, text, backbone)
