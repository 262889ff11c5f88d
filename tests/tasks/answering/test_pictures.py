"""Pictures are read when they are looked at, and a bounded number of bytes of them is kept."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tasks.answering import pictures
from tasks.answering.pictures import Pictures


def write(file: Path, colour: str) -> str:
    Image.new("RGB", (400, 300), colour).save(file)
    return str(file)


def size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


def test_what_was_looked_at_is_kept_at_each_size(tmp_path: Path) -> None:
    kept, uri = Pictures(10**6), write(tmp_path / "a.png", "red")
    small, large = kept.read(uri, 160), kept.read(uri, 1024)
    assert (size(small), size(large)) == ((160, 120), (400, 300))
    Path(uri).unlink()
    assert kept.read(uri, 160) == small
    assert kept.read(uri, 1024) == large


def test_what_was_not_looked_at_for_longest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [write(tmp_path / f"{name}.png", name) for name in ("red", "green", "blue")]
    kept = Pictures(10**6)
    first = kept.read(uris[0], 160)
    monkeypatch.setattr(pictures, "ROOM", int(2.5 * len(first)))
    kept.read(uris[1], 160)
    kept.read(uris[0], 160)
    kept.read(uris[2], 160)
    for uri in uris:
        Path(uri).unlink()
    assert kept.read(uris[0], 160) == first
    assert size(kept.read(uris[1], 160)) == (192, 144)  # the placeholder: it was let go


def test_what_cannot_be_read_now_may_be_another_time(tmp_path: Path) -> None:
    kept, uri = Pictures(10**6), str(tmp_path / "late.png")
    assert size(kept.read(uri, 160)) == (192, 144)
    write(tmp_path / "late.png", "red")
    assert size(kept.read(uri, 160)) == (160, 120)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    assert size(Pictures(1000).read(write(tmp_path / "a.png", "red"), 160)) == (192, 144)
