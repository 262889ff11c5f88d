"""The images of a training set on disk: read in any order, gone without a trace."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipcore.images import Preprocess, decode, resize_and_crop
from tasks.images.disk_cache import Spool
from tests.worlds.images import encoded_image

PREPROCESS = Preprocess(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def uris(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded_image(number, (10, 12)))
    return [str(path) for path in paths]


def test_images_come_back_by_position_in_any_order(uris: list[str]) -> None:
    spool = Spool(PREPROCESS, max_pixels=10_000)
    spool.fill(uris)
    batches = [torch.tensor([6, 0, 3]), torch.tensor([3]), torch.tensor([1, 2, 4, 5])]
    found = list(spool.load_pixels(batches))
    for batch, pixels in zip(batches, found, strict=True):
        expected = [
            resize_and_crop(
                decode(Path(uris[position]).read_bytes(), max_pixels=10_000), PREPROCESS
            )
            for position in batch.tolist()
        ]
        assert torch.equal(pixels, torch.from_numpy(np.stack(expected)))


def test_an_image_that_is_gone_is_an_error(uris: list[str]) -> None:
    Path(uris[2]).unlink()
    with pytest.raises(OSError, match=r"2\.png"):
        Spool(PREPROCESS, max_pixels=10_000).fill(uris)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_on_disk(uris: list[str], tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "from clipcore.images import Preprocess\n"
        "from tasks.images.disk_cache import Spool\n"
        "spool = Spool(Preprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1)), max_pixels=10_000)\n"
        "spool.fill(sys.argv[1:])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = tmp_path / "temporary"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, *uris], env={"TMPDIR": str(here), "PATH": ""}, check=False
    )
    assert done.returncode == -9
    assert not list(here.iterdir())
