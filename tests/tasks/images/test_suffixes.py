"""What the extensions of files mean, and how those that are not read are told."""

import pytest
from PIL import Image

from clipcore.image_files import FORMATS
from tasks.images.suffixes import IMAGE_SUFFIXES, countable, describe_skipped, package_for


def test_what_is_listed_is_what_pillow_calls_by_these_extensions() -> None:
    known = Image.registered_extensions()
    for suffix in IMAGE_SUFFIXES - {".pjpeg"}:  # a name of browsers
        assert known[suffix] in (*FORMATS, "MPO"), suffix
    assert {".jfif", ".jpe", ".mpo", ".apng"} < IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "package"),
    [
        (".heic", "pillow-heif"), (".hif", "pillow-heif"), (".avif", "pillow"),
        (".jxl", "pillow-jxl-plugin"), (".cr2", "rawpy"), (".jp2", "pillow"), (".svg", "cairosvg"),
        (".txt", None), ("", None),
    ],
)  # fmt: skip
def test_the_package_that_reads_a_format(suffix: str, package: str | None) -> None:
    assert package_for(suffix) == package


def test_the_number_of_extensions_is_small_whatever_files_are_called() -> None:
    assert countable(".HEIC") == ".heic"
    for odd in ("", ".", ".1699999999", ".20240131", ".a b", ".verylongextension", ".ä-ö"):
        assert countable(odd) == "", odd


def test_skipped_files_in_one_line() -> None:
    skipped = {".txt": 30, ".jxl": 2, ".md": 4, "": 1}
    assert (
        describe_skipped(skipped)
        == "2 .jxl (convert with pillow-jxl-plugin), 30 .txt, 4 .md, 1 other"
    )
    assert describe_skipped(skipped, limit=1) == "2 .jxl (convert with pillow-jxl-plugin), 35 other"
    assert describe_skipped({".heic": 1234}) == "1,234 .heic (needs pillow-heif)"
    assert describe_skipped({}) == ""
