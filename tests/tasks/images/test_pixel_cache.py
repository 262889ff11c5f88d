"""Decoded pixels on disk: what one process wrote another reads, or decodes again, never wrongly."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.images import cache_folder, pixel_cache
from tasks.images.cache_folder import CacheFolder
from tasks.images.pixel_cache import PixelCache, cache_of_run
from tests.worlds.pixels import BYTES, PREPROCESS, cached, some_pixels


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / f"{cache_folder.PREFIX}test"


def found(cache: PixelCache, image_id: str) -> np.ndarray | None:
    out = np.zeros((8, 8, 3), np.uint8)
    return out if cache.read(image_id, out) else None


def test_what_one_process_wrote_another_reads_after_a_refresh(place: Path) -> None:
    one, two = cached(place).cache, cached(place).cache
    for number in range(3):
        assert one.write(f"{number}", some_pixels(number))
    assert "1" in one
    assert "1" not in two
    two.refresh()
    for number in (2, 0, 1):
        assert np.array_equal(found(two, f"{number}"), some_pixels(number))
    assert two.write("3", some_pixels(3))
    one.refresh()
    assert np.array_equal(found(one, "3"), some_pixels(3))
    assert found(one, "4") is None


def test_another_preprocessing_has_pixels_of_its_own(place: Path) -> None:
    one = cached(place).cache
    one.write("a", some_pixels(0))
    other = PixelCache(CacheFolder(place), replace(PREPROCESS, interpolation="bilinear"))
    other.refresh()
    assert "a" not in other


def test_pixels_whose_key_was_not_written_yet_are_not_there(place: Path) -> None:
    one, two = cached(place).cache, cached(place).cache
    one.write("a", some_pixels(0))
    (keys,) = place.glob("*.keys")
    whole = keys.read_bytes()
    keys.write_bytes(whole[:-1])
    two.refresh()
    assert "a" not in two
    keys.write_bytes(whole)
    two.refresh()
    assert np.array_equal(found(two, "a"), some_pixels(0))


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damaged_files_give_no_pixels(place: Path, damage: str) -> None:
    one, two = cached(place).cache, cached(place).cache
    one.write("a", some_pixels(0))
    (file,) = place.glob("*.pixels")
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        data[17] ^= 1
        file.write_bytes(data if damage == "changed" else data[:-5])
    two.refresh()
    assert found(two, "a") is None
    assert two.write("a", some_pixels(0))
    assert np.array_equal(found(two, "a"), some_pixels(0))


def test_a_full_cache_says_so_once_and_is_still_read(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cached(place, max_bytes=2 * BYTES + 1).cache
    written = [cache.write(f"{number}", some_pixels(number)) for number in range(4)]
    assert written == [True, True, False, False]
    assert not cache.is_open
    assert np.array_equal(found(cache, "1"), some_pixels(1))
    assert sum(path.stat().st_size for path in place.glob("*.pixels")) == 2 * BYTES
    said = capsys.readouterr()
    assert (said.out + said.err).count("is full") == 1


def test_a_full_disk_closes_the_cache_and_leaves_what_was_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cached(place).cache
    cache.write("a", some_pixels(0))
    pwrite = os.pwrite

    def half(descriptor: int, data: Any, offset: int) -> int:
        if offset % BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data[:50], offset)

    monkeypatch.setattr(os, "pwrite", half)
    assert not cache.write("b", some_pixels(1))
    monkeypatch.undo()
    assert not cache.write("b", some_pixels(1))
    other = cached(place).cache
    other.refresh()
    assert found(other, "b") is None
    assert np.array_equal(found(other, "a"), some_pixels(0))
    said = capsys.readouterr()
    assert (said.out + said.err).count("No space left on device") == 1


def test_the_cache_of_a_run_is_one_in_a_process_and_none_with_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "folder_of_run", lambda: tmp_path / "run")
    pixel_cache._folder.cache_clear()
    try:
        assert cache_of_run(PREPROCESS, 1000) is cache_of_run(PREPROCESS, 1000)
        nothing = cache_of_run(PREPROCESS, 0)
        assert not nothing.write("a", some_pixels(0))
        assert found(nothing, "a") is None
    finally:
        pixel_cache._folder.cache_clear()


def test_a_place_that_cannot_be_used_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").touch()
    monkeypatch.setattr(pixel_cache, "folder_of_run", lambda: tmp_path / "run")
    pixel_cache._folder.cache_clear()
    try:
        assert not cache_of_run(PREPROCESS, None).write("a", some_pixels(0))
    finally:
        pixel_cache._folder.cache_clear()
    said = capsys.readouterr()
    assert "not kept" in said.out + said.err
