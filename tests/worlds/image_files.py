"""Image files that no camera writes: by Pillow's writers, and byte by byte."""

import io
import struct
import zlib
from itertools import accumulate
from typing import Any

import numpy as np
from PIL import Image

_STRIP_OFFSETS, _STRIP_BYTES, _LONG = 273, 279, 4  # tags of TIFF, and the type of a value
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    """Return an image as a file of a format."""
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return random uint8 of shape (height, width, channels), or (height, width) for one."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return values[:, :, 0] if channels == 1 else values


def rgb(width: int = 24, height: int = 20) -> Image.Image:
    """Return an image of noise."""
    return Image.fromarray(noise(width, height))


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(  # what a header says
    width: int,
    height: int,
    *,
    depth: int = 8,
    color: int = 0,
    extra: bytes = b"",
    rows: bytes | None = None,
) -> bytes:
    """Return a PNG with a header and `extra` chunks, and no pixels unless packed rows are given."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = b"" if rows is None else png_chunk(b"IDAT", zlib.compress(_filtered(rows, height)))
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), extra, data, png_chunk(b"IEND", b""))
    )


def with_chunk(data: bytes, chunk: bytes, *, last: bool = False) -> bytes:
    """Return a PNG with one more chunk: right behind its header, or behind its pixels."""
    place = len(data) - 12 if last else 33
    return data[:place] + chunk + data[place:]


def tiff(
    samples: np.ndarray,
    *,
    photometric: int = 1,
    bits: int = 0,
    tags: Any = (),
    separate: bool = False,
    deflate: bool = False,
) -> bytes:
    """Return a TIFF of one strip, or one of each channel, with samples of any type.

    Args:
        samples: Shape (height, width) or (height, width, channels); little endian.
        photometric: 0: zero is white, 1: zero is black, 2: RGB, 3: palette, 5: CMYK.
        bits: Of a sample; by default as the type has.
        tags: Further (tag, value or values) pairs.
        separate: Whether each channel has a plane of its own.
        deflate: Whether strips are compressed.
    """
    height, width = samples.shape[:2]
    channels = samples[0, 0].size
    per_sample = (bits or samples.dtype.itemsize * 8,) * channels
    formats = (_SAMPLE_FORMATS[samples.dtype.kind],) * channels
    entries = {
        256: (width,), 257: (height,), 258: per_sample, 259: (8 if deflate else 1,),
        262: (photometric,), 277: (channels,), 278: (height,), 284: (1 + separate,), 339: formats,
    } | {tag: tuple(np.atleast_1d(value)) for tag, value in tags}  # fmt: skip
    planes = samples.reshape(height, width, channels)
    strips = [plane.tobytes() for plane in (np.moveaxis(planes, 2, 0) if separate else [planes])]
    return _tiff_file(entries, *(zlib.compress(strip) if deflate else strip for strip in strips))


def tiff_of_12_bits(rows: np.ndarray) -> bytes:
    """Return a grey TIFF of values below 4096, two in three bytes."""
    left, right = rows[:, ::2], rows[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=2)
    height, width = rows.shape
    tags = {256: (width,), 257: (height,), 258: (12,), 262: (1,), 277: (1,), 278: (height,)}
    data = packed.astype(np.uint8).tobytes()
    return _tiff_file({**tags, 259: (1,)}, data)


def _filtered(rows: bytes, height: int) -> bytes:
    """Put PNG's filter byte 0 before each row."""
    length = len(rows) // height
    return b"".join(b"\0" + rows[start : start + length] for start in range(0, len(rows), length))


def _tiff_file(entries: dict[int, tuple[int, ...]], *strips: bytes) -> bytes:
    """Return a header, the directory, the values that do not fit into their entry, and the data."""
    lengths = tuple(map(len, strips))
    entries = {**entries, _STRIP_BYTES: lengths, _STRIP_OFFSETS: lengths}
    behind = 8 + 2 + 12 * len(entries) + 4
    long = sum(4 * len(numbers) for numbers in entries.values() if len(numbers) > 1)
    entries[_STRIP_OFFSETS] = tuple(accumulate(lengths[:-1], initial=behind + long))
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        is_long = len(numbers) > 1
        entry = (behind + len(values),) if is_long else numbers
        directory += struct.pack("<HHII", tag, _LONG, len(numbers), *entry)
        values += struct.pack(f"<{len(numbers)}I", *numbers) if is_long else b""
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + values + b"".join(strips)
