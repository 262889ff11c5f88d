"""The images of a training set: read in any order, in each epoch, gone without a trace."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image

from clipcore.image_files import BadImage
from tasks.images import cache_folder, training_pixels
from tasks.images.pixels import Pixels
from tasks.images.training_pixels import TrainingPixels
from tests.worlds.pixels import BYTES, cached, not_cached, pixels_in, write_files

BATCHES = [torch.tensor([6, 0, 3]), torch.tensor([3]), torch.tensor([1, 2, 4, 5])]


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    return write_files(tmp_path / "images", 7)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / f"{cache_folder.PREFIX}test"


def training_set(images: pa.Table, how: Pixels) -> TrainingPixels:
    return TrainingPixels(how, images["image_id"].to_pylist(), images["uri"].to_pylist())


@pytest.mark.parametrize("max_images", [0, 3, 100])
def test_images_come_back_by_position_in_any_order_and_epoch(
    images: pa.Table, place: Path, max_images: int
) -> None:
    expected = pixels_in(images)
    how = cached(place, max_bytes=max_images * BYTES) if max_images else not_cached()
    training = training_set(images, how)
    for path in map(Path, images["uri"].to_pylist()):
        path.unlink()  # what was fetched once is not fetched again
    for _ in range(2):
        for batch, pixels in zip(BATCHES, training.load(BATCHES), strict=True):
            assert torch.equal(pixels, expected[batch])
    assert torch.equal(training.mapped(), expected)


def test_where_files_cannot_be_kept_either_they_are_fetched_again(
    images: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_pixels, "write_all", no_room)
    training = training_set(images, not_cached())
    for batch, pixels in zip(BATCHES, training.load(BATCHES), strict=True):
        assert torch.equal(pixels, pixels_in(images)[batch])


def test_an_image_that_is_gone_is_an_error(images: pa.Table) -> None:
    Path(images["uri"][2].as_py()).unlink()
    with pytest.raises(OSError, match=r"2\.png"):
        training_set(images, not_cached())


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 2_000)])
@pytest.mark.parametrize("is_cached", [False, True])
def test_an_image_that_became_a_giant_is_an_error(
    images: pa.Table, place: Path, size: tuple[int, int], *, is_cached: bool
) -> None:
    """It is refused before it fills the memory, wherever its pixels would go."""
    Image.new("L", size).save(images["uri"][2].as_py())
    how = replace(cached(place) if is_cached else not_cached(), max_pixels=2_000_000)
    with pytest.raises(BadImage, match="extreme-aspect-ratio"):
        list(training_set(images, how).load(BATCHES))


def test_a_cached_image_may_be_gone(images: pa.Table, place: Path) -> None:
    training_set(images, cached(place))
    expected = pixels_in(images)
    for uri in images["uri"].to_pylist():
        Path(uri).unlink()
    assert torch.equal(training_set(images, cached(place)).mapped(), expected)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_on_disk(images: pa.Table, tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "from tasks.images.training_pixels import TrainingPixels\n"
        "from tests.worlds.pixels import not_cached\n"
        "training = TrainingPixels(not_cached(), sys.argv[1:], sys.argv[1:])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = tmp_path / "temporary"
    here.mkdir()
    environment = {"TMPDIR": str(here), "PATH": "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = [sys.executable, "-c", code, *images["uri"].to_pylist()]
    done = subprocess.run(command, env=environment, check=False)
    assert done.returncode == -9
    assert not list(here.iterdir())
