"""Passes over a part of a pool: each image decoded once on a machine, bad ones set aside."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from clipcore.image_files import MAX_ASPECT_RATIO, BadImage
from clipcore.images import BYTES_AT_ONCE, BYTES_PER_PIXEL
from tasks.images import cache_folder, pixels
from tasks.images.pixels import Pixels, batches
from tasks.images.quarantine import Quarantined
from tasks.images.sources import ahead
from tasks.specs import PoolSpec
from tasks.storage.digests import content_id
from tests.worlds.images import encoded_image
from tests.worlds.pixels import BYTES, cached, not_cached, pixels_in, write_files

COUNT = 11
PROCESS = """
import sys
from pathlib import Path
import torch
from tasks.images import pixels
from tasks.images.quarantine import Quarantined
from tasks.images.training_pixels import TrainingPixels
from tests.worlds.pixels import cached, pixels_in, write_files

folder, log, passes = sys.argv[1:]
read_pixels = pixels.read_pixels

def counted(data, preprocess, **limits):
    with open(log, "a") as file:
        file.write("decoded\\n")
    return read_pixels(data, preprocess, **limits)

pixels.read_pixels = counted
images = write_files(Path(folder), 40)
how, quarantined = cached(Path(log).parent / "cache"), Quarantined("embed")
for _ in range(int(passes)):
    for rows, batch in pixels.batches(images, how, quarantined, batch_size=8):
        assert torch.equal(batch, pixels_in(images)[rows])
ids, uris = images["image_id"].to_pylist(), images["uri"].to_pylist()
training = TrainingPixels(how, ids, uris)
for _ in range(3):
    order = torch.randperm(40).split(7)
    for positions, batch in zip(order, training.load(order), strict=True):
        assert torch.equal(batch, pixels_in(images)[positions])
"""


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    return write_files(tmp_path / "images", COUNT)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / f"{cache_folder.PREFIX}test"


def swept(images: pa.Table, how: Pixels, *, batch_size: int = 4) -> dict[int, torch.Tensor]:
    """Return the pixels of each row, as batches of at most so many."""
    quarantined, found = Quarantined("embed"), {}
    for rows, batch in batches(images, how, quarantined, batch_size=batch_size):
        assert 0 < len(rows) == len(batch) <= batch_size
        found.update(zip(rows, batch, strict=True))
    assert not quarantined.rows
    return found


def test_a_pass_gives_every_row_with_and_without_a_cache(images: pa.Table, place: Path) -> None:
    expected = pixels_in(images)
    half = images.slice(0, 5)
    swept(half, cached(place))
    for how in (not_cached(), cached(place), cached(place)):
        found = swept(images, how)
        assert sorted(found) == list(range(COUNT))
        assert all(torch.equal(found[row], expected[row]) for row in found)


def test_bad_images_go_to_quarantine_and_leave_no_hole(tmp_path: Path, images: pa.Table) -> None:
    uris = images["uri"].to_pylist()
    Path(uris[1]).write_bytes(b"no image")
    Path(uris[6]).unlink()
    for number in (8, 9, 10):  # a whole batch
        Path(uris[number]).write_bytes(b"")
    quarantined = Quarantined("embed")
    found = list(batches(images, not_cached(), quarantined, batch_size=4))
    rows = sorted(row for numbers, _ in found for row in numbers)
    assert rows == [0, 2, 3, 4, 5, 7]
    assert {row["reason"] for row in quarantined.rows} == {
        "not-an-image",
        "empty-file",
        "unreadable",
    }
    assert len(quarantined.rows) == 5
    good = pixels_in(images.take(rows))
    by_row: dict[int, torch.Tensor] = {}
    for numbers, batch in found:
        by_row.update(zip(numbers, batch, strict=True))
    assert all(torch.equal(by_row[row], good[place]) for place, row in enumerate(rows))


GIANTS = {
    "tall.png": (1, 1_000_000),
    "wide.png": (1_000_000, 1),
    "tall.gif": (2, 60_000),
    "wide.webp": (16_000, 3),
    "large.png": (10_001, 1_000),
}


def test_giants_go_to_quarantine_before_they_fill_the_memory(
    tmp_path: Path, images: pa.Table, place: Path
) -> None:
    """Each would be gigabytes once its short side fits the tower."""
    for name, size in GIANTS.items():
        Image.new("L", size).save(tmp_path / name)
    uris = [str(tmp_path / name) for name in GIANTS]
    ids, unknown = list(GIANTS), pa.nulls(len(GIANTS), pa.int64())
    mixed = pa.concat_tables(
        [images, pa.table({"image_id": ids, "uri": uris, "bytes": unknown})]
    ).take(pa.array([COUNT, *range(COUNT), *range(COUNT + 1, COUNT + len(GIANTS))]))
    for way in (not_cached(), cached(place)):
        how, quarantined = replace(way, max_pixels=2_000_000), Quarantined("embed")
        found = list(batches(mixed, how, quarantined, batch_size=4))
        assert sum(len(batch) for _, batch in found) == COUNT
        reasons = {row["uri"]: row["reason"] for row in quarantined.rows}
        expected = dict.fromkeys(uris, "extreme-aspect-ratio") | {uris[-1]: "too-many-pixels"}
        assert reasons == expected


def test_the_largest_image_by_default_has_room() -> None:
    """What the documentation of `clipcore.images` states: no worker holds more, in all threads."""
    limits = PoolSpec(images="here")
    largest = BYTES_PER_PIXEL * limits.max_pixels + 4 * limits.max_bytes
    assert largest + 4 * MAX_ASPECT_RATIO * 448**2 <= BYTES_AT_ONCE == 3_000_000_000


def test_what_is_told_of_a_bad_image_does_not_hold_its_pixels(tmp_path: Path) -> None:
    """A batch of broken photos would be gigabytes."""
    data = encoded_image(1, (64, 64), form="JPEG")
    out = np.empty((8, 8, 3), np.uint8)
    half = data[: len(data) // 2]
    problem = not_cached().fill(out, content_id(half), "1.jpg", half)
    assert isinstance(problem, BadImage)
    assert problem.reason == "truncated"
    assert (problem.__traceback__, problem.__context__, problem.__cause__) == (None, None, None)


def test_an_image_that_took_the_place_of_another_is_not_taken_for_it(
    images: pa.Table, place: Path
) -> None:
    first, second, *_ = map(Path, images["uri"].to_pylist())
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    quarantined = Quarantined("embed")
    rows = [
        row for rows, _ in batches(images, cached(place), quarantined, batch_size=4) for row in rows
    ]
    assert sorted(rows) == list(range(1, COUNT))
    ((uri, reason, detail),) = [(r["uri"], r["reason"], r["detail"]) for r in quarantined.rows]
    assert (uri, reason) == (str(first), "unreadable"), "the next run reads it again"
    assert "another image than when it was listed" in str(detail)
    first.write_bytes(data)
    swept(images, cached(place))


def test_pixels_that_are_damaged_are_decoded_again(images: pa.Table, place: Path) -> None:
    swept(images, cached(place))
    (file,) = place.glob("*.pixels")
    data = bytearray(file.read_bytes())
    data[3 * BYTES + 5] ^= 255
    file.write_bytes(data)
    found = swept(images, cached(place))
    assert torch.equal(torch.stack([found[row] for row in range(COUNT)]), pixels_in(images))


def test_beyond_the_bound_images_are_decoded_again(
    images: pa.Table, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    read_pixels = pixels.read_pixels
    monkeypatch.setattr(
        pixels, "read_pixels", lambda *args, **how: decoded.append(1) or read_pixels(*args, **how)
    )
    how = cached(place, max_bytes=4 * BYTES)
    for _ in range(3):
        assert len(swept(images, how)) == COUNT
    assert len(decoded) == COUNT + 2 * (COUNT - 4)


def test_files_that_wait_to_be_decoded_are_few(
    images: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "ENCODED_AHEAD", 1)
    assert len(swept(images, not_cached(), batch_size=COUNT)) == COUNT


@pytest.mark.slow
def test_two_processes_decode_each_image_once_over_all_passes_and_epochs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_files(tmp_path / "images", 40)
    run = cached(tmp_path / "cache")  # lasts longer than either
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "images"), str(log)]
    started = [subprocess.Popen([*command, passes]) for passes in ("2", "0")]
    assert [process.wait() for process in started] == [0, 0]
    assert len(log.read_text().splitlines()) == 40
    assert len(swept(write_files(tmp_path / "images", 40), run)) == 40


def test_the_next_ones_are_begun_before_the_first_is_asked_for() -> None:
    begun: list[int] = []
    items = ahead((begun.append(number) or number for number in range(5)), 2)
    assert next(items) == 0
    assert begun == [0, 1, 2]
    assert list(items) == [1, 2, 3, 4]
