"""Texts come in several encodings; what is no text is named."""

import pytest

from tasks.annotations.text import NotText, decode

TEXT = "id;Name\n0;Käfer\n1;犬\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marked_texts(encoding: str, end: str) -> None:
    assert decode(TEXT.replace("\n", end).encode(encoding)) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(encoding: str) -> None:
    assert decode(TEXT.encode(encoding)) == TEXT
    for text in ("\u043a\u043e\u0442\n\u043f\u0451\u0441\n", "猫\n犬\n", "日本語\n英語の\n"):
        assert decode(text.encode(encoding)) == text


def test_a_text_in_two_bytes_a_letter_that_is_none() -> None:
    assert decode("犬猫".encode()) == "犬猫"
    assert decode(b"") == ""
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfcat") == "cat"  # marked twice


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("cat\nKäfer\n".encode("latin-1"), "bytes in line 2 that are not UTF-8"),
        (b"\xff\xfec\0a\0t", "damaged UTF-16 text"),
        (b"\xd0\xcf\x11\xe0 xls", "an old Excel file"),
        (b"PK\x03\x04 xlsx", "a ZIP or Excel file"),
        (b"PAR1", "a Parquet file"),
        (b"cat\n\0\0\0dog", "binary data"),
    ],
)
def test_what_is_no_text(data: bytes, words: str) -> None:
    with pytest.raises(NotText, match=words):
        decode(data)
