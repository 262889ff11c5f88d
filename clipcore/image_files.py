"""Image files: opened within limits, or refused with a reason; no pixel is decoded here."""

import io
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TypeVar

from PIL import Image, ImageFile, ImagePalette, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2, TiffImageFile

from clipcore.file_kinds import damaged_format, foreign_kind


def _can_read_heif() -> bool:
    """Return whether pillow-heif is installed, and let Pillow know of it."""
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


# Only formats that people keep photos in: each decoder that is left out is one less to attack.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"),
    *(name.upper() for name in ("webp", "avif") if features.check(name)),
    *(["HEIF"] if _can_read_heif() else []),
)
MAX_BYTES = 64 * 2**20  # of a file, unless a run says otherwise
MAX_PIXELS = 128_000_000  # of an image, unless a run says otherwise
MAX_ASPECT_RATIO = 100  # of the long side to the short one, which resizing makes `size` pixels long

MAY_PASS = ("no-decoder", "out-of-memory")  # reasons that lie in the machine, not in the content

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS_OF_PNG = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339
_WIDTH, _LENGTH, _PLANES, _COLOUR_MAP, _EXTRA_SAMPLES = 256, 257, 284, 320, 338
_TOGETHER, _SEPARATE = 1, 2  # the channels of a pixel; each has a plane of its own
_MIN_IS_WHITE, _UNSIGNED, _WHITE = 0, 1, 255
_BITS_OF_A_BYTE, _MOST_BITS = 8, 16
_SAMPLES = {1: "unsigned", 2: "signed", 3: "float", 4: "undefined", 5: "complex", 6: "complex"}
_MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
)
_MODES_IN_PLANES = ("RGB", "RGBX", "RGBA", "RGBa", "CMYK")
_TILE_PIXELS = 2**24  # a tile of TIFF may be larger than its image, and libtiff holds one

Read = TypeVar("Read")


class BadImage(ValueError):
    """Bytes that are no usable image, with a slug as the reason and a sentence as the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def read_tolerant(read: Callable[[bytes], Read], data: bytes) -> Read:
    """Return what `read` makes of a file; of a PNG that fails, of its pixels without the rest.

    Pillow refuses a PNG whose texts or colour profile are large or damaged.

    Raises:
        BadImage: what `read` raised for the whole file.
    """
    try:
        return read(data)
    except BadImage as error:
        if not data.startswith(_PNG):
            raise
        try:
            return read(b"".join((_PNG, *_chunks_with_pixels(data))))
        except BadImage:
            raise error from None


def open_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """Open a file without decoding it.

    Args:
        data: An image file.
        max_pixels: Largest product of width and height.

    Raises:
        BadImage: no image, beyond the limits, or samples whose range nothing states.
    """
    if not data:
        raise BadImage("empty-file", "0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image, max_pixels)
        _check_samples(image)
        _mend_planes(image)
        _scale_transparent_colour(image)
        _scale_palette(image)
    except BadImage:
        raise
    except Exception as error:
        raise explain(error, data) from error
    return image


def explain(error: Exception, data: bytes = b"") -> BadImage:
    """Turn an error of a decoder into a reason; Pillow raises nearly anything on bad bytes."""
    if isinstance(error, MemoryError):
        return BadImage("out-of-memory", "there was no memory left to decode or to resize it")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadImage("too-many-pixels", str(error))
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(data)
    if "truncated" in str(error) or "premature end" in str(error).lower():
        return BadImage("truncated", str(error))
    return BadImage("decode-error", f"{type(error).__name__}: {error}")


def sixteen_bit_range(image: Image.Image) -> tuple[int, bool]:
    """Return by how many bits samples of 16 bits go down to 8, and whether 0 is white."""
    if not isinstance(image, TiffImageFile):
        return 8, False
    bits, photometric = image.tag_v2.get(_BITS, (16,)), image.tag_v2.get(_PHOTOMETRIC)
    return int(bits[0]) - 8, photometric == _MIN_IS_WHITE


def states_alpha(image: Image.Image) -> bool:
    """Return whether a file says that its fourth channel is alpha; some programs leave it empty."""
    if isinstance(image, TiffImageFile):
        return _EXTRA_SAMPLES in image.tag_v2
    return image.format != "BMP"


def held_pixels(image: Image.Image) -> int:
    """Return how many pixels decoding holds: those of the image, or of a tile that is larger."""
    width, height = image.size
    if not isinstance(image, TiffImageFile):
        return width * height
    across, down = (int(image.tag_v2.get(tag) or 1) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    return max(width * height, across * down)


# --- limits -----------------------------------------------------------------------------------


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        detail = f"{width} x {height} pixels, at most {max_pixels} are decoded"
        raise BadImage("too-many-pixels", detail)
    if held_pixels(image) > max(4 * width * height, _TILE_PIXELS):
        detail = f"tiles of {held_pixels(image)} pixels in an image of {width} x {height}"
        raise BadImage("too-many-pixels", detail)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        detail = f"{width} x {height} pixels: a side is over {MAX_ASPECT_RATIO} times the other one"
        raise BadImage("extreme-aspect-ratio", detail)


def _check_samples(image: Image.Image) -> None:
    """Refuse samples that no rule of the table in `clipcore.images` brings to 8 bits."""
    if isinstance(image, TiffImageFile):
        formats = image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))
        known = set(formats) == {_UNSIGNED} and image.mode not in ("I", "F")
        if not known:
            raise _unsupported_samples(image.tag_v2)
    # Netpbm states the largest value of a sample, and Pillow brings it to 65535.
    stated = image.mode == "I" and image.format == "PPM"
    if not (image.mode in _MODES or image.mode.startswith("I;16") or stated):
        detail = f"{image.format} with samples of mode {image.mode}"
        raise BadImage("unsupported-sample-format", detail)


def _unsupported_samples(tags: ImageFileDirectory_v2) -> BadImage:
    bits, formats = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    kinds = [_SAMPLES.get(number, str(number)) for number in dict.fromkeys(formats)]
    why = (
        "unsigned samples of 1 to 16 bits are shown, for others nothing says which values are black"
        " and white"
    )
    if set(formats) == {_UNSIGNED} and max(bits) <= _MOST_BITS:
        planes = ", in separate planes" if tags.get(_PLANES) == _SEPARATE else ""
        why = f"no rule says how such channels{planes} are shown"
    return BadImage(
        "unsupported-sample-format",
        f"TIFF of {len(bits)} x {'/'.join(map(str, dict.fromkeys(bits)))} bits ({', '.join(kinds)},"
        f" photometric interpretation {tags.get(_PHOTOMETRIC)}): {why}; convert it to RGB",
    )


def _mend_planes(image: Image.Image) -> None:
    """Have separate planes read by libtiff: Pillow itself takes samples of all sizes for 8 bits.

    Raises:
        BadImage: channels of which Pillow leaves one empty, or takes it for another, in planes.
    """
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(_PLANES) != _SEPARATE:
        return
    if len(image.getbands()) == 1:
        image.tag_v2[_PLANES] = _TOGETHER  # which is the same
        image._setup()  # noqa: SLF001
        return
    if image.mode not in _MODES_IN_PLANES:
        raise _unsupported_samples(image.tag_v2)
    if not image.use_load_libtiff:
        area = (0, 0, image.tag_v2[_WIDTH], image.tag_v2[_LENGTH])
        samples = image.mode + (";16N" if max(image.tag_v2[_BITS]) > _BITS_OF_A_BYTE else "")
        args = (samples, False, image.tag_v2.offset)
        image.tile = [ImageFile._Tile("libtiff", area, 0, args)]  # noqa: SLF001
        image.use_load_libtiff = True


def _scale_transparent_colour(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG, in its samples, to the 8 bits of Pillow's pixels."""
    colour = image.info.get("transparency")
    if colour is None or not isinstance(image, PngImageFile) or not image.tile:
        return
    samples = image.tile[0].args
    if samples == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif samples in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if samples == "L;2" else 17)


def _scale_palette(image: Image.Image) -> None:
    """Take the palette of a TIFF for 8 bits where no colour has more, as libtiff does."""
    if isinstance(image, TiffImageFile) and image.mode in ("P", "PA"):
        colours = image.tag_v2[_COLOUR_MAP]
        if max(colours) <= _WHITE:
            image.palette = ImagePalette.raw("RGB;L", bytes(colours))


# --- files that Pillow does not know ----------------------------------------------------------


def _unidentified(data: bytes) -> BadImage:
    brands = data[8:64] if data[4:8] == b"ftyp" else b""
    for name, own, package in (("AVIF", _AVIF, "pillow"), ("HEIF", _HEIF, "pillow-heif")):
        if any(brand in brands for brand in own):
            if name in FORMATS:
                return BadImage("decode-error", f"{name} that is damaged, or of an unknown kind")
            return BadImage("no-decoder", f"{name} needs the package {package}")
    if data[:4] in PREFIXES and (tags := _tiff_tags(data)):
        return _unsupported_samples(tags)
    if damaged := damaged_format(data):
        return BadImage("decode-error", damaged)
    kind = foreign_kind(data)
    what = f"{kind}; " if kind else ""
    return BadImage("not-an-image", f"{what}formats that are read: {', '.join(FORMATS)}")


def _tiff_tags(data: bytes) -> ImageFileDirectory_v2 | None:
    """Return the tags of a TIFF with a size."""
    is_big = data[2] == 43 or data[3] == 43  # noqa: PLR2004  # BigTIFF's version
    try:
        tags = ImageFileDirectory_v2(data[: 16 if is_big else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return tags if tags.get(_WIDTH) and tags.get(_LENGTH) else None
    except Exception:  # noqa: BLE001  # as in `explain`
        return None


def _chunks_with_pixels(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG that its first picture is made of."""
    start = len(_PNG)
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + length + 12
        if name in _PIXELS_OF_PNG:
            yield data[start:end]
        start = end
