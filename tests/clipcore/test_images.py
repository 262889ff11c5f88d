"""From image files to pixels: open_clip's transform, every format, upright, the first picture."""

import io
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clipcore import images
from clipcore.image_files import FORMATS
from clipcore.images import (
    BYTES_PER_PIXEL,
    Preprocess,
    check_header,
    decode,
    read_pixels,
    resize_and_crop,
)
from clipcore.room import Room
from tests.worlds.image_files import encoded, noise, rgb

MAX_PIXELS = 10_000_000
SMALL = Preprocess(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def decoded(data: bytes) -> np.ndarray:
    image = decode(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image)


# --- resize and crop are open_clip's --------------------------------------------------------------


def open_clip_pixels(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Return what open_clip feeds its tower, with the normalisation switched off."""
    config = PreprocessCfg(
        size=preprocess.size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation=preprocess.interpolation,
        resize_mode=preprocess.resize_mode,
    )
    tensor = image_transform_v2(config, is_train=False)(image)
    return (tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


SIZES = [
    (32, 32), (33, 32), (32, 47), (31, 33), (100, 37), (37, 100), (64, 64), (5, 9), (1, 1),
    (1, 40), (640, 33), (129, 128),
]  # fmt: skip


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [32, 45])
def test_fit_is_open_clips_transform(interpolation: Any, resize_mode: Any, size: int) -> None:
    preprocess = Preprocess(size, (0.0,) * 3, (1.0,) * 3, interpolation, resize_mode)  # type: ignore[arg-type]
    for width, height in SIZES:
        image = Image.fromarray(noise(width, height))
        found = resize_and_crop(image, preprocess)
        assert found.shape == (size, size, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, open_clip_pixels(image, preprocess), f"{image.size}")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_decoded_modes_fit_as_open_clip_converts_them(mode: str) -> None:
    image = Image.fromarray(noise(40, 30)).convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    preprocess = Preprocess(32, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    found = resize_and_crop(decode(data, max_pixels=MAX_PIXELS), preprocess)
    expected = open_clip_pixels(Image.open(io.BytesIO(data)).convert("RGB"), preprocess)
    np.testing.assert_array_equal(found, expected)


def test_pixels_are_decoded_and_fitted() -> None:
    preprocess = Preprocess(16, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    data = encoded(rgb(30, 20), "PNG")
    expected = resize_and_crop(decode(data, max_pixels=MAX_PIXELS), preprocess)
    found = read_pixels(data, preprocess, max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(found, expected)


def most_at_once(files: list[bytes], room: Room, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many files are decoded at once, by threads for all of them that start together."""
    monkeypatch.setattr(images, "_ROOM", room)
    start, lock, inside, most = Barrier(len(files)), Lock(), 0, 0
    to_rgb = images._to_rgb

    def counted(image: Image.Image) -> Image.Image:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        sleep(0.02)  # others may come in, if they are let in
        with lock:
            inside -= 1
        return to_rgb(image)

    def read(data: bytes) -> np.ndarray:
        start.wait(60)
        return read_pixels(data, SMALL, max_pixels=MAX_PIXELS)

    monkeypatch.setattr(images, "_to_rgb", counted)
    with ThreadPoolExecutor(len(files)) as threads:
        found = list(threads.map(read, files))
    assert all(pixels.shape == (16, 16, 3) for pixels in found)
    return most


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "WEBP"])
def test_giants_wait_for_each_other(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads decode, what they hold together has a bound."""
    files = [encoded(rgb(40, 30), form)] * 6
    held = BYTES_PER_PIXEL * 40 * 30 + 4 * len(files[0])
    assert most_at_once(files, Room(held // 2), monkeypatch) == 1  # each is too large for it
    assert most_at_once(files, Room(2 * held - 1), monkeypatch) == 1
    assert most_at_once(files, Room(3 * held), monkeypatch) <= 3


def test_images_that_fit_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(rgb(40, 30), "PNG")] * 3
    together, to_rgb = Barrier(len(files)), images._to_rgb
    held = BYTES_PER_PIXEL * 40 * 30 + 4 * len(files[0])
    monkeypatch.setattr(images, "_ROOM", Room(len(files) * held))
    monkeypatch.setattr(images, "_to_rgb", lambda image: (together.wait(60), to_rgb(image))[1])
    with ThreadPoolExecutor(len(files)) as threads:
        read = threads.map(lambda data: decode(data, max_pixels=MAX_PIXELS), files)
        assert [image.size for image in read] == [(40, 30)] * len(files)


def test_digest_changes_with_every_field() -> None:
    one = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    others = [
        Preprocess(33, one.mean, one.std),
        Preprocess(32, (0.5, 0.5, 0.4), one.std),
        Preprocess(32, one.mean, (0.5, 0.5, 0.4)),
        Preprocess(32, one.mean, one.std, "bilinear"),
        Preprocess(32, one.mean, one.std, "bicubic", "squash"),
    ]
    digests = {item.digest() for item in [one, *others]}
    assert len(digests) == 6
    assert one.digest() == Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).digest()
    assert all(len(digest) == 16 for digest in digests)


def test_pixels_by_other_rules_have_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So features of before are not taken for those of now."""
    preprocess = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    before = preprocess.digest()
    monkeypatch.setattr(images, "RULES", images.RULES + 1)
    assert preprocess.digest() != before


# --- files that are fine --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_come_back_exactly(format: str) -> None:  # noqa: A002
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = encoded(rgb(), format, **options)
    np.testing.assert_array_equal(decoded(data), noise(24, 20))
    assert check_header(data, max_pixels=MAX_PIXELS) == (24, 20)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}  # EXIF 2.32, tag 0x0112: what a viewer does to show the stored rows upright


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:  # noqa: A002
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.kron(noise(6, 4), np.ones((8, 8, 1), np.uint8)))
    options: dict[str, Any] = {"exif": exif}
    if format in ("JPEG", "AVIF"):
        options |= {"quality": 100, "subsampling": "4:4:4"}
    if format == "WEBP":
        options |= {"lossless": True}
    data = encoded(image, format, **options)
    shown = TURNS[orientation](np.asarray(image))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(decoded(data), shown, atol={"JPEG": 4, "AVIF": 8}.get(format, 0))
    assert check_header(data, max_pixels=MAX_PIXELS) == shown.shape[1::-1]


def test_broken_exif_does_not_cost_the_image() -> None:
    data = encoded(rgb(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff not a directory")
    np.testing.assert_array_equal(decoded(data), noise(24, 20))
    assert check_header(data, max_pixels=MAX_PIXELS) == (24, 20)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    for form in ("GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"):
        if form == "WEBP":
            options["lossless"] = True
        error = {"MPO": 8, "AVIF": 8}.get(form, 0)
        found = decoded(encoded(frames[0], form, **options))
        np.testing.assert_allclose(found.astype(int) - [255, 0, 0], 0, atol=error, err_msg=form)


def test_a_picture_outside_the_animation_is_the_default_one() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert (decoded(data) == [255, 0, 0]).all()


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
@pytest.mark.parametrize("primary", [0, 1])
def test_of_heif_the_primary_picture_counts(primary: int) -> None:
    pictures = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    data = encoded(
        pictures[0], "HEIF", save_all=True, append_images=pictures[1:], primary_index=primary
    )
    expected = np.asarray(pictures[primary])
    np.testing.assert_allclose(decoded(data).astype(int), expected, atol=8)
