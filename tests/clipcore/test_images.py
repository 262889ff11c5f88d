"""Image files of every kind: what is decoded and how, what is refused and for which reason."""

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clipcore.images import (
    FORMATS,
    BadImage,
    Preprocess,
    check_header,
    decode,
    resize_and_crop,
    resize_and_crop_all,
)
from tests.worlds.memory import traced_memory

MAX_PIXELS = 10_000_000


def pixels(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[:, :, 0] if channels == 1 else values


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def webp(image: Image.Image, **options: Any) -> bytes:
    return encoded(image, "WEBP", lossless=True, **options)


def rgb(width: int = 24, height: int = 20) -> Image.Image:
    return Image.fromarray(pixels(width, height))


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *, depth: int = 8, color: int = 0, extra: bytes = b"") -> bytes:
    """Return a PNG with a header and `extra` chunks, and no pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IEND", b"")


def decoded(data: bytes) -> np.ndarray:
    image = decode(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.detail
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.detail}"
    return caught.value.reason


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
        image = Image.fromarray(pixels(width, height))
        found = resize_and_crop(image, preprocess)
        assert found.shape == (size, size, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, open_clip_pixels(image, preprocess), f"{image.size}")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_decoded_modes_fit_as_open_clip_converts_them(mode: str) -> None:
    image = Image.fromarray(pixels(40, 30)).convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    preprocess = Preprocess(32, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    found = resize_and_crop(decode(data, max_pixels=MAX_PIXELS), preprocess)
    expected = open_clip_pixels(Image.open(io.BytesIO(data)).convert("RGB"), preprocess)
    np.testing.assert_array_equal(found, expected)


def test_resize_and_crop_all_stacks() -> None:
    preprocess = Preprocess(16, (0.0,) * 3, (1.0,) * 3)  # type: ignore[arg-type]
    images = [rgb(20, 30), rgb(30, 20)]
    stacked = resize_and_crop_all(images, preprocess)
    assert stacked.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(stacked[1], resize_and_crop(images[1], preprocess))


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


# --- files that are fine --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_come_back_exactly(format: str) -> None:  # noqa: A002
    data = webp(rgb()) if format == "WEBP" else encoded(rgb(), format)
    np.testing.assert_array_equal(decoded(data), pixels(24, 20))
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
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:  # noqa: A002
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.kron(pixels(6, 4), np.ones((8, 8, 1), np.uint8)))
    options: dict[str, Any] = {"exif": exif}
    if format == "JPEG":
        options |= {"quality": 100, "subsampling": 0}
    if format == "WEBP":
        options |= {"lossless": True}
    data = encoded(image, format, **options)
    shown = TURNS[orientation](np.asarray(image))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(decoded(data), shown, atol=4 if format == "JPEG" else 0)
    assert check_header(data, max_pixels=MAX_PIXELS) == shown.shape[1::-1]


def test_broken_exif_does_not_cost_the_image() -> None:
    data = encoded(rgb(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff not a directory")
    np.testing.assert_array_equal(decoded(data), pixels(24, 20))
    assert check_header(data, max_pixels=MAX_PIXELS) == (24, 20)


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    found = decoded(encoded(red.convert("CMYK"), "JPEG", quality=95))
    np.testing.assert_allclose(found, np.asarray(red), atol=8)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_the_high_byte(format: str) -> None:  # noqa: A002
    """Pillow's own conversion clips at 255, which makes nearly every such image white."""
    values = np.linspace(0, 65535, 24 * 20).reshape(20, 24).astype(np.uint16)
    found = decoded(encoded(Image.fromarray(values), format))
    np.testing.assert_array_equal(found, np.repeat((values >> 8)[:, :, None], 3, axis=2))


def test_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    data = encoded(image, "PNG", transparency=b"\x00\x80")
    assert decoded(data).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    for data in (encoded(frames[0], "GIF", **options), webp(frames[0], **options)):
        assert (decoded(data) == [255, 0, 0]).all()


# --- files that are not ---------------------------------------------------------------------------


def test_no_bytes_are_an_empty_file() -> None:
    assert reason(b"") == "empty-file"


@pytest.mark.parametrize(
    "data",
    [b"class names, one per line\n", b"\x00" * 100, b"%PDF-1.4", b"<svg></svg>", b"PK\x03\x04"],
)
def test_other_files_are_not_images(data: bytes) -> None:
    assert reason(data) == "not-an-image"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_half_a_file_is_refused(format: str) -> None:  # noqa: A002
    data = encoded(rgb(64, 64), format)
    assert reason(data[: len(data) // 2]) in ("truncated", "decode-error", "not-an-image")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_half_a_photo_is_called_truncated(format: str) -> None:  # noqa: A002
    data = encoded(rgb(64, 64), format)
    assert reason(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "PPM"])
def test_every_cut_gives_pixels_or_a_reason(format: str) -> None:  # noqa: A002
    """Whatever a decoder raises on bad bytes comes out as BadImage."""
    data = encoded(rgb(9, 7), format)
    for length in range(1, len(data), max(1, len(data) // 60)):
        with contextlib.suppress(BadImage):
            decoded(data[:length])


@pytest.mark.parametrize("format", FORMATS)
def test_flipped_bytes_give_pixels_or_a_reason(format: str) -> None:  # noqa: A002
    data = encoded(rgb(9, 7), format)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 40):
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(BadImage):
            decoded(bytes(broken))


def test_formats_that_nobody_keeps_photos_in_are_refused() -> None:
    for format_ in ("ICO", "PCX", "TGA", "SGI"):
        assert reason(encoded(rgb(), format_)) == "not-an-image"


# --- bombs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [20_000, 200_000])
def test_a_huge_header_is_refused_without_decoding(side: int) -> None:
    """400 and 40,000 megapixels; Pillow itself refuses the second."""
    data = png(side, side)
    with traced_memory() as bytes_held:
        for refuse in (check_header, decode):
            with pytest.raises(BadImage) as caught:
                refuse(data, max_pixels=MAX_PIXELS)
            assert caught.value.reason == "too-many-pixels"
        assert bytes_held()[1] < 2**20


def test_the_limit_is_inclusive() -> None:
    data = encoded(rgb(24, 20), "PNG")
    assert check_header(data, max_pixels=480) == (24, 20)
    assert reason(data, max_pixels=479) == "too-many-pixels"


def test_a_long_animation_is_judged_by_one_frame() -> None:
    frames = [Image.new("L", (50, 50), n) for n in range(30)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert check_header(data, max_pixels=2500) == (50, 50)


def test_text_that_unpacks_to_gigabytes_is_refused() -> None:
    """PNG's zTXt: 64 chunks of 1 kB that unpack to 1 MiB each, and one that unpacks to 100 MiB."""
    small, large = (zlib.compress(b"a" * size, 9) for size in (2**20 - 100, 100 * 2**20))
    many = b"".join(png_chunk(b"zTXt", b"k%d\0\0" % n + small) for n in range(80))
    for extra in (many, png_chunk(b"zTXt", b"k\0\0" + large)):
        with traced_memory() as bytes_held:
            with pytest.raises(BadImage):
                check_header(png(8, 8, extra=extra), max_pixels=MAX_PIXELS)
            assert bytes_held()[1] < 150 * 2**20


@pytest.mark.parametrize("format", FORMATS)
def test_reading_a_header_decodes_no_pixels(
    format: str,  # noqa: A002
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pillow decodes a whole PNG to look for EXIF behind its pixels."""
    data = encoded(rgb(), format)
    file = type(Image.open(io.BytesIO(data)))
    monkeypatch.setattr(file, "load", lambda _: pytest.fail("the pixels were decoded"))
    assert check_header(data, max_pixels=MAX_PIXELS) == (24, 20)
    assert check_header(png(64, 48), max_pixels=MAX_PIXELS) == (64, 48)  # has none to decode
