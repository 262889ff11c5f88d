"""Bytes of a file as text: UTF-8 or UTF-16, with or without a byte order mark, or a refusal."""

import codecs
from unicodedata import category

_MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a ZIP or Excel file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF file",
    b"PAR1": "a Parquet file",
}
_NO_TEXT = ("Cc", "Cn", "Co", "Cs")  # categories of Unicode
_SAMPLE = 4096  # bytes that show the encoding, an even number


class NotText(ValueError):
    """The bytes are no text; the message says what they are, or in which line the text ends."""


def decode(data: bytes) -> str:
    """Return the text of a file, with line feeds alone at the ends of lines.

    Raises:
        NotText: it is another format, or has bytes that are neither UTF-8 nor UTF-16.
    """
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            raise NotText(name)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), _without_mark(data))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            msg = f"damaged {encoding.removesuffix('-sig').upper()} text"
        else:
            line = data.count(b"\n", 0, error.start) + 1
            msg = f"bytes in line {line} that are not UTF-8"
        raise NotText(msg) from error
    if "\0" in text:
        msg = "binary data"
        raise NotText(msg)
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _without_mark(data: bytes) -> str:
    """Return the encoding of bytes without a mark.

    Only UTF-16 has zeros in a text, those of a line end at least; read in the wrong order it shows
    characters that are none, or no line.
    """
    sample = data[:_SAMPLE]
    fits = [name for name in ("utf-16-le", "utf-16-be") if 0 in sample and _is_text(sample, name)]
    return fits[0] if len(fits) == 1 else "utf-8"


def _is_text(sample: bytes, encoding: str) -> bool:
    """Return whether bytes are lines of characters that exist, but for one that is cut in two."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        text = decoder.decode(sample)
    except UnicodeDecodeError:
        return False
    has_end = "\n" in text or "\r" in text
    signs = set(text) - set("\t\r\n")
    return has_end and not any(category(sign) in _NO_TEXT for sign in signs)
