"""Image files that are opened, and those that are refused, for which reason and at what cost."""

import contextlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from clipcore import image_files
from clipcore.image_files import FORMATS, MAX_ASPECT_RATIO, BadImage
from clipcore.images import check_header, decode
from tests.worlds.image_files import encoded, noise, png, png_chunk, rgb, tiff, with_chunk
from tests.worlds.memory import traced_memory

MAX_PIXELS = 10_000_000


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, max_pixels=MAX_PIXELS))


def reason(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.detail
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.detail}"
    return caught.value.reason


# --- files that are no images ---------------------------------------------------------------------


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


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 301), (1010, 10)])
@pytest.mark.parametrize("form", ["PNG", "GIF", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_thin_giant_is_refused(size: tuple[int, int], form: str) -> None:
    """Resized so that its short side fits a tower, it would fill the memory of any machine."""
    if max(size) > 16_383 and form != "PNG":  # what all formats can hold
        size = (1, 16_000)
    data = encoded(Image.new("L", size), form)
    for refuse in (check_header, decode):
        with pytest.raises(BadImage) as caught:
            refuse(data, max_pixels=MAX_PIXELS)
        assert caught.value.reason == "extreme-aspect-ratio"
        assert f"{size[0]} x {size[1]}" in caught.value.detail


@pytest.mark.parametrize("size", [(1, MAX_ASPECT_RATIO), (2 * MAX_ASPECT_RATIO, 2)])
def test_the_limit_of_the_aspect_ratio_is_inclusive(size: tuple[int, int]) -> None:
    assert check_header(encoded(Image.new("L", size), "PNG"), max_pixels=MAX_PIXELS) == size


def test_a_tile_that_is_larger_than_its_image_is_refused() -> None:
    tile = [(322, 60_000), (323, 60_000)]
    assert reason(tiff(noise(9, 7, 1), tags=tile)) == "too-many-pixels"
    assert decoded(tiff(noise(9, 7, 1), tags=[(322, 16), (323, 16)])).shape == (7, 9, 3)


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


# --- PNG: what is beside the pixels ---------------------------------------------------------------

MEGABYTES = zlib.compress(b"a" * (3 * 2**20))
BESIDE = {
    "compressed": png_chunk(b"zTXt", b"parameters\0\0" + MEGABYTES),
    "international": png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + MEGABYTES),
    "plain": png_chunk(b"tEXt", b"workflow\0" + b"a" * (65 * 2**20)),
    "many": b"".join(
        png_chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(b"a" * (2**20 - 100), 9))
        for n in range(80)
    ),
    "bomb": png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * (100 * 2**20), 9)),
    "profile": png_chunk(b"iCCP", b"sRGB\0\0" + MEGABYTES),
    "damaged": png_chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",
    "animation": png_chunk(b"acTL", b"\0\0"),
}


@pytest.mark.parametrize(
    ("name", "last"), [*((name, False) for name in BESIDE), ("compressed", True), ("damaged", True)]
)
def test_texts_and_profiles_do_not_cost_the_picture(name: str, *, last: bool) -> None:
    """As image generators, editors and microscopes write them."""
    data = with_chunk(encoded(rgb(), "PNG"), BESIDE[name], last=last)
    with traced_memory() as bytes_held:
        assert check_header(data, max_pixels=MAX_PIXELS) == (24, 20)
        np.testing.assert_array_equal(decoded(data), noise(24, 20))
        assert bytes_held()[1] < 4 * len(data) + 150 * 2**20


def test_a_large_text_hides_neither_rotation_nor_transparency() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(noise(24, 20, 4))
    data = encoded(image, "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(with_chunk(data, BESIDE["compressed"])), decoded(data))
    grey = encoded(Image.fromarray(noise(24, 20, 1)), "PNG", transparency=7)
    np.testing.assert_array_equal(decoded(with_chunk(grey, BESIDE["bomb"])), decoded(grey))


def test_pixels_that_are_damaged_stay_damaged() -> None:
    data = with_chunk(encoded(rgb(64, 64), "PNG"), BESIDE["compressed"])
    assert reason(data[: len(data) - 3000]) == "decode-error"


# --- samples whose range nothing states -----------------------------------------------------------

UNSUPPORTED = {
    "int8": "i1", "int16": "<i2", "int32": "<i4", "uint32": "<u4", "float16": "<f2",
    "float32": "<f4", "float64": "<f8", "complex": "<c8",
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_samples_of_unknown_range_are_refused(name: str, channels: int) -> None:
    values = np.arange(60).reshape(3, 20)[:, : 4 * channels].reshape(3, 4, channels)
    data = tiff(values.astype(UNSUPPORTED[name]), photometric=2 if channels > 2 else 1)
    for refuse in (check_header, decode):
        with pytest.raises(BadImage, match="nothing says which values") as caught:
            refuse(data, max_pixels=MAX_PIXELS)
        assert caught.value.reason == "unsupported-sample-format"


@pytest.mark.parametrize("mode", ["F", "I"])
@pytest.mark.parametrize("compression", [None, "tiff_deflate", "tiff_lzw"])
def test_so_are_those_that_pillow_writes(mode: str, compression: str | None) -> None:
    data = encoded(Image.new(mode, (4, 3)), "TIFF", compression=compression)
    assert reason(data) == "unsupported-sample-format"


def test_a_float_map_is_refused_and_other_channels_too() -> None:
    assert reason(encoded(Image.new("F", (4, 3)), "PPM")) == "unsupported-sample-format"
    assert reason(tiff(noise(4, 3, 7), photometric=2)) == "unsupported-sample-format"


# --- files that another package reads -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "brand", "package"),
    [
        ("HEIF", b"heic", "pillow-heif"),
        ("HEIF", b"mif1", "pillow-heif"),
        ("AVIF", b"avif", "pillow"),
    ],
)
def test_a_missing_decoder_is_named(
    name: str, brand: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "FORMATS", tuple(one for one in FORMATS if one != name))
    with pytest.raises(BadImage, match=f"no-decoder: {name} needs the package {package}$"):
        decode(b"\0\0\0\x18ftyp" + brand + bytes(40), max_pixels=MAX_PIXELS)


def test_half_an_avif_is_called_damaged() -> None:
    data = encoded(rgb(64, 64), "AVIF")
    assert reason(data[: len(data) // 2]) == "decode-error"


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_heic_is_read_upright_and_over_white(orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.kron(noise(6, 4), np.ones((16, 16, 1), np.uint8))
    alpha = np.full((64, 96, 1), 255, np.uint8)
    alpha[:32] = 0
    logo = Image.fromarray(np.concatenate([image, alpha], axis=2))
    data = encoded(logo, "HEIF", quality=-1, chroma=444, exif=exif.tobytes())
    image[:32] = 255
    shown = np.rot90(image, turns)
    np.testing.assert_allclose(decoded(data).astype(int), shown, atol=2)
    assert check_header(data, max_pixels=MAX_PIXELS) == shown.shape[1::-1]
    assert reason(data[: len(data) // 2]) == "decode-error"


def test_no_memory_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(rgb(), "BMP")
    monkeypatch.setattr(Image, "open", no_memory)
    assert reason(data) == "out-of-memory"
    assert "out-of-memory" in image_files.MAY_PASS
