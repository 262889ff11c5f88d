"""The table of modes and samples: each entry, and random images against the rules written again."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from clipcore.image_files import FORMATS, BadImage
from clipcore.images import decode
from tests.worlds.image_files import (
    encoded,
    noise,
    png,
    png_chunk,
    tiff,
    tiff_of_12_bits,
)

WHITE = [255, 255, 255]


def decoded(data: bytes) -> np.ndarray:
    image = decode(data, max_pixels=10_000)
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(data: bytes) -> list[list[int]]:
    """Return the values of a grey picture."""
    found = decoded(data)
    assert (found == found[:, :, :1]).all()
    return found[:, :, 0].tolist()  # type: ignore[no-any-return]


# --- random images --------------------------------------------------------------------------------


LOSSLESS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": (
        *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "YCbCr"),
        *("I;16", "I;16B"),
    ),
    "BMP": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "GIF": ("1", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
}  # formats that keep these modes as they are
ORIENTATIONS = {1: 0, 3: 2, 6: -1, 8: 1}  # EXIF, and the quarter turns that show it upright


def random_image(mode: str, width: int, height: int, seed: int) -> Image.Image:
    values = noise(width, height, 4, seed)
    if mode.startswith("I;16"):
        low, high = values[:, :, 0].astype(np.uint16), values[:, :, 1].astype(np.uint16)
        return Image.fromarray(high << 8 | low).convert(mode)
    if mode == "PA":
        bands = [random_image("P", width, height, seed), random_image("L", width, height, 1)]
        return Image.merge("PA", bands)
    channels = len(Image.new(mode, (1, 1)).getbands())
    if mode == "1":
        return Image.fromarray(values[:, :, 0]).convert("1")
    image = Image.frombytes(mode, (width, height), noise(width, height, channels, seed).tobytes())
    if mode == "P":
        image.putpalette(noise(256, 1, 3, seed).tobytes())
    return image


def by_the_table(image: Image.Image) -> np.ndarray:
    """Return what the table says of an image: the rules once more, in floating point."""
    if image.mode.startswith("I;16"):
        return np.repeat(np.asarray(image)[:, :, None] // 256, 3, axis=2)
    if image.mode in ("LA", "PA", "RGBA"):
        values = np.asarray(image.convert("RGBA")).astype(float)
        alpha = values[:, :, 3:] / 255
        return np.rint(values[:, :, :3] * alpha + 255 * (1 - alpha))
    return np.asarray(image.convert("RGB"))


@settings(max_examples=200)
@given(
    case=st.sampled_from([(form, mode) for form, modes in LOSSLESS.items() for mode in modes]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32 - 1),
    orientation=st.sampled_from(sorted(ORIENTATIONS)),
    compression=st.sampled_from([None, "tiff_lzw"]),
)
def test_random_images_are_decoded_by_the_table(
    case: tuple[str, str],
    size: tuple[int, int],
    seed: int,
    orientation: int,
    compression: str | None,
) -> None:
    form, mode = case
    image = random_image(mode, *size, seed)
    turns, exif = 0, Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True, "exact": True} if form == "WEBP" else {}
    if form in ("PNG", "TIFF", "WEBP"):
        options |= {"exif": exif}
        turns = ORIENTATIONS[orientation]
    if form == "TIFF":
        options |= {"compression": compression}
    found = decoded(encoded(image, form, **options))
    error = 1 if mode == "YCbCr" else 0  # libtiff converts it where it unpacks
    shown = np.rot90(by_the_table(image), turns)
    np.testing.assert_allclose(found.astype(int), shown, atol=error)


@settings(max_examples=40)
@given(
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(["JPEG", *sorted({"WEBP", "AVIF", "GIF", "HEIF"} & set(FORMATS))]),
)
def test_random_images_of_lossy_formats_are_as_pillow_converts_them(
    mode: str, size: tuple[int, int], seed: int, form: str
) -> None:
    image = random_image(mode, *size, seed)
    if mode == "CMYK" and form == "GIF":
        image = image.convert("RGB")
    data = encoded(image, form)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(decoded(data), np.asarray(opened.convert("RGB")))


CHANNELS = {
    "0 is white": (1, 0, []), "L": (1, 1, []), "LA": (2, 1, [2]), "La": (2, 1, [1]),
    "RGB": (3, 2, []), "RGBA": (4, 2, [2]), "RGBa": (4, 2, [1]), "RGBX": (4, 2, [0]),
    "CMYK": (4, 5, []),
}  # fmt: skip  # number, photometric interpretation, extra samples


def shown(mode: str, values: np.ndarray) -> np.ndarray:
    """Return what the table says of samples of 8 bits, in floating point."""
    if mode == "CMYK":
        return np.asarray(Image.fromarray(values, "CMYK").convert("RGB"))
    if mode == "RGBX":
        return values[:, :, :3]
    if mode == "0 is white":
        values = 255 - values
    if mode in ("0 is white", "L", "RGB"):
        return np.broadcast_to(values, (*values.shape[:2], 3))
    colours, alpha = values[:, :, :-1].astype(float), values[:, :, -1:].astype(float)
    on_white = (colours if mode.endswith("a") else colours * alpha / 255) + 255 - alpha
    return np.broadcast_to(on_white, (*values.shape[:2], 3))


@settings(max_examples=200)
@given(
    mode=st.sampled_from(sorted(CHANNELS)),
    bits=st.sampled_from([8, 16]),
    separate=st.booleans(),
    deflate=st.booleans(),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_samples_of_tiff_are_shown_by_the_table_or_refused(  # all that a writer may choose
    mode: str, bits: int, size: tuple[int, int], seed: int, *, separate: bool, deflate: bool
) -> None:
    channels, photometric, extra = CHANNELS[mode]
    values = noise(*size, channels, seed).reshape(*size[::-1], channels)
    if mode in ("La", "RGBa"):
        values[:, :, :-1] = np.minimum(values[:, :, :-1], values[:, :, -1:])
    samples = values.astype("<u2") * 257 if bits == 16 else values
    tags = [(338, extra)] if extra else []
    data = tiff(samples, photometric=photometric, tags=tags, separate=separate, deflate=deflate)
    is_refused = channels == 2 and (bits == 16 or separate)
    if is_refused or (mode == "RGBX" and separate and bits == 8 and not deflate):
        with pytest.raises(BadImage, match=r"unsupported-sample-format: TIFF of [24] x"):
            decoded(data)
    else:
        np.testing.assert_allclose(decoded(data).astype(int), shown(mode, values), atol=1)


# --- alpha, transparent colours, palettes ---------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_a_black_logo_on_nothing_is_black_on_white(form: str) -> None:
    logo = np.zeros((16, 16, 4), np.uint8)
    logo[4:12, 4:12, 3] = 255
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    found = decoded(encoded(Image.fromarray(logo), form, **options))
    assert (found[0, 0] == WHITE).all()
    assert (found[8, 8] < 3).all()


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(form: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    image.putdata([0, 1, 2])
    found = decoded(encoded(image, form, transparency=1))
    assert found.tolist() == [[[10, 20, 30], WHITE, [7, 8, 9]]]


def test_a_palette_with_alpha_is_composed_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    found = decoded(encoded(image, "PNG", transparency=b"\x00\x80"))
    assert found.tolist() == [[WHITE, [227, 177, 152]]]


@pytest.mark.parametrize(
    ("depth", "rows", "key", "shown"),
    [
        (1, b"\x50", 0, [255, 255, 255, 255]),  # 0 1 0 1
        (1, b"\x50", 1, [0, 255, 0, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),  # 0 1 2 3
        (4, b"\x0f\x10", 1, [0, 255, 255, 0]),  # 0 15 1 0
        (8, bytes([0, 200, 201, 255]), 200, [0, 255, 201, 255]),
        (16, struct.pack(">4H", 300, 301, 512, 0), 300, [255, 1, 2, 0]),
    ],
)
def test_a_transparent_grey_of_any_depth_is_white(
    depth: int, rows: bytes, key: int, shown: list[int]
) -> None:
    transparent = png_chunk(b"tRNS", struct.pack(">H", key))
    assert grey(png(4, 1, depth=depth, extra=transparent, rows=rows)) == [shown]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_white(depth: int) -> None:
    unit = 1 if depth == 8 else 256
    colours = np.array([[1, 2, 3], [1, 2, 4]]) * unit
    rows = colours.astype(">u2" if depth == 16 else "u1").tobytes()
    transparent = png_chunk(b"tRNS", colours[0].astype(">u2").tobytes())
    data = png(2, 1, depth=depth, color=2, extra=transparent, rows=rows)
    assert decoded(data).tolist() == [[WHITE, [1, 2, 4]]]


@pytest.mark.parametrize(("color", "channels"), [(4, 2), (6, 4)])
def test_alpha_of_sixteen_bits_is_composed_on_white(color: int, channels: int) -> None:
    values = np.full((2, channels), 256)
    values[:, -1] = [0, 65535]
    data = png(2, 1, depth=16, color=color, rows=values.astype(">u2").tobytes())
    assert grey(data) == [[255, 1]]


@pytest.mark.parametrize("extra", [1, 2], ids=["multiplied", "as it is"])
@pytest.mark.parametrize("channels", [2, 4])
def test_tiff_says_whether_colours_are_multiplied_by_alpha(extra: int, channels: int) -> None:
    values = np.full((1, 1, channels), 100, np.uint8)
    values[:, :, -1] = 128
    data = tiff(values, photometric=2 if channels == 4 else 1, tags=[(338, extra)])
    shown = 100 + 127 if extra == 1 else round(100 * 128 / 255 + 127)
    np.testing.assert_allclose(decoded(data), shown, atol=1)


@pytest.mark.parametrize(("photometric", "channels"), [(1, 2), (3, 2), (8, 3)])
@pytest.mark.parametrize("deflate", [False, True])
def test_planes_of_which_pillow_loses_one_are_refused(
    photometric: int, channels: int, *, deflate: bool
) -> None:
    """Without alpha's plane all is white; without the sign of LAB's all has other colours."""
    tags = [(320, np.arange(768)), (338, 2)] if channels == 2 else []
    planes = tiff(
        noise(4, 3, channels), photometric=photometric, tags=tags, separate=True, deflate=deflate
    )
    with pytest.raises(BadImage, match="such channels, in separate planes are shown; convert it"):
        decoded(planes)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 4])
def test_one_plane_is_as_no_planes(bits: int, photometric: int) -> None:
    """Which Pillow takes for samples of another size, or for white where it is black."""
    rows, size = noise(bits, 5, 1), [(256, 8)]
    files = [
        tiff(rows, photometric=photometric, bits=bits, tags=size, separate=separate)
        for separate in (False, True)
    ]
    np.testing.assert_array_equal(*map(decoded, files))


@pytest.mark.parametrize("largest", [255, 65535])
def test_a_palette_of_tiff_has_colours_of_8_or_16_bits(largest: int) -> None:
    """Some programs write 8 bits where the format wants 16; read as 16 they are all black."""
    shares = np.array([[0, 0.2, 1], [1, 0.4, 0], [0, 1, 0.6]])  # of red, green, blue
    palette = np.zeros((3, 256), int)
    palette[:, :3] = shares * largest
    data = tiff(np.array([[0, 1, 2]], np.uint8), photometric=3, tags=[(320, palette.ravel())])
    np.testing.assert_allclose(decoded(data)[0], np.rint(255 * shares.T), atol=1)


@pytest.mark.parametrize(("alpha", "shown"), [([0, 0], [1, 2]), ([0, 255], [255, 2])])
def test_a_bmp_without_alpha_in_its_alpha_is_opaque(alpha: list[int], shown: list[int]) -> None:
    """Windows leaves the fourth byte of a pixel empty when it copies a screen."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 56, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks
    pixels = bytes([1, 1, 1, alpha[0], 2, 2, 2, alpha[1]])
    file = struct.pack("<2sIHHI", b"BM", 14 + 56 + 8, 0, 0, 14 + 56) + header + pixels
    assert grey(file) == [shown]


@pytest.mark.parametrize(
    ("tags", "shown"), [([], [1, 2]), ([(338, 2)], [255, 255]), ([(338, 0)], [1, 2])]
)
def test_a_fourth_channel_of_tiff_that_is_empty(tags: list[Any], shown: list[int]) -> None:
    """Alpha only where the file says so."""
    values = np.array([[[1, 1, 1, 0], [2, 2, 2, 0]]], np.uint8)
    assert grey(tiff(values, photometric=2, tags=tags)) == [shown]


# --- more than 8 bits -----------------------------------------------------------------------------

STEPS = np.array([[0, 1, 255, 256], [4095, 4096, 40000, 65535]])
HIGH_BYTES = [[0, 0, 0, 1], [15, 16, 156, 255]]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_the_high_byte(form: str) -> None:
    """Pillow's own conversion clips at 255, which makes nearly every such image white."""
    assert grey(encoded(Image.fromarray(STEPS.astype(np.uint16)), form)) == HIGH_BYTES


def test_sixteen_bits_whose_zero_is_white() -> None:
    inverted = [[255 - value for value in row] for row in HIGH_BYTES]
    assert grey(tiff(STEPS.astype("<u2"), photometric=0)) == inverted
    assert grey(tiff(STEPS.astype("<u2"))) == HIGH_BYTES


def test_twelve_bits_keep_the_high_eight() -> None:
    rows = np.array([[0, 15, 16, 255], [256, 2048, 4080, 4095]])
    assert grey(tiff_of_12_bits(rows)) == (rows >> 4).tolist()


@pytest.mark.parametrize("data", [b"P2 3 1 300\n0 150 300\n", b"P5 3 1 300\n\0\0\0\x96\x01\x2c"])
def test_netpbm_states_its_largest_value(data: bytes) -> None:
    np.testing.assert_allclose(grey(data), [[0, 128, 255]], atol=1)


def test_colours_of_sixteen_bits_keep_the_high_byte() -> None:
    colour = np.array([[[256, 513, 65535]]])
    assert decoded(tiff(colour.astype("<u2"), photometric=2)).tolist() == [[[1, 2, 255]]]
    data = png(1, 1, depth=16, color=2, rows=colour.astype(">u2").tobytes())
    assert decoded(data).tolist() == [[[1, 2, 255]]]


# --- CMYK, profiles -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(form: str) -> None:
    """JPEG holds it inverted, with Adobe's mark; TIFF holds it as it is."""
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    data = encoded(red.convert("CMYK"), form, quality=95)
    assert (b"Adobe" in data) == (form == "JPEG")
    np.testing.assert_allclose(decoded(data), np.asarray(red), atol=8)


@pytest.mark.parametrize("profile", ["sRGB", "LAB", "XYZ", "damaged"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_colour_profiles_are_ignored(form: str, profile: str) -> None:
    content = b"no profile"
    if profile != "damaged":
        content = ImageCms.ImageCmsProfile(ImageCms.createProfile(profile)).tobytes()  # type: ignore[arg-type]
    image = Image.fromarray(noise(9, 7))
    without = decoded(encoded(image, form))
    np.testing.assert_array_equal(decoded(encoded(image, form, icc_profile=content)), without)
