"""What a file is that cannot be read as an image, told by its first bytes."""

import re
from typing import NamedTuple


class _Kind(NamedTuple):
    signature: str  # a regular expression of bytes, at the start of a file
    name: str


_DAMAGED = "that is damaged, or of an unknown kind"
_FORMATS = tuple(
    _Kind(*pair)
    for pair in (
        (r"\xff\xd8\xff", "JPEG"),
        (r"\x89PNG\r\n", "PNG"),
        (r"GIF8[79]a", "GIF"),
        (r"RIFF....WEBP", "WebP"),
        (r"II[*+]\0|MM\0[*+]", "TIFF"),
        (r"BM....\0\0\0\0..\0\0", "BMP"),
        (r"P[1-7Ff]\s+[\d#W]", "Netpbm"),
    )
)  # that are read
_OTHERS = tuple(
    _Kind(*pair)
    for pair in (
        (r"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (r"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
        (r"\0\0[\x01\x02]\0[^\0]\0", "an icon of Windows"),
        (r"icns", "an icon of macOS"),
        (r"DDS ", "a DirectDraw surface"),
        (r"8BP[SB]", "a Photoshop document"),
        (r"v/1\x01", "OpenEXR"),
        (r"#\?RADIANCE", "a Radiance picture"),
        (r"qoif", "QOI"),
        (r".{128}DICM", "DICOM"),
        (r"FUJIFILM|....ftypcrx", "a raw photo of a camera"),
        (r"%PDF", "a PDF document"),
        (r"%!PS", "a PostScript document"),
        (r"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
        (r"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive, to be unpacked first"),
        (r"\x93NUMPY|\x89HDF|PAR1|\x80[\x02-\x05]", "an array or a table"),
        (r"\0\x05\x16\x07", "what macOS keeps beside a file (its name starts with `._`)"),
        (r"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` brings the image"),
        (r"data:image/", "an image as a text in base64, to be decoded first"),
        (r"\s*(<!--.*?-->\s*)?(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg.*?)?<svg", "SVG"),
        (r"\s*<(!doctype )?html", "a web page, such as a server sends for an error"),
        (r"\0+$", "nothing but zero bytes: the copy or the download was cut off"),
    )
)
_HEAD = 1024  # bytes that are looked at
_QUOTED = 40  # characters of a text


def damaged_format(data: bytes) -> str | None:
    """Return a sentence about a file that starts as an image does that can be read."""
    name = _name(data, _FORMATS)
    return name and f"{name} {_DAMAGED}"


def foreign_kind(data: bytes) -> str | None:
    """Return what other file this is, if its first bytes tell."""
    return _name(data, _OTHERS) or _text(data[:_HEAD])


def _name(data: bytes, kinds: tuple[_Kind, ...]) -> str | None:
    for signature, name in kinds:
        if re.match(signature.encode("latin-1"), data[:_HEAD], re.DOTALL | re.IGNORECASE):
            return name
    return None


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig", errors="strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    words = " ".join(text.split())
    return f'a text, "{words[:_QUOTED]}"' if words.isprintable() else None
