"""What is said of files that are no images, or that are damaged ones."""

import gzip
import io
import zipfile

import pytest
from PIL import Image

from clipcore.image_files import FORMATS, BadImage
from clipcore.images import decode
from tests.worlds.image_files import encoded, rgb


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", encoded(rgb(), "JPEG"))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
OTHERS = {
    "a pointer of Git LFS: `git lfs pull`": POINTER,
    "a web page, such as": b"\n<!DOCTYPE html>\n<html><title>404 Not Found</title></html>",
    "SVG;": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    'a text, "<Error> <Code>AccessDenied': b"<Error>\n<Code>AccessDenied</Code></Error>",
    'a text, "BMW and P5 are no pictures"': b"\xef\xbb\xbfBMW and P5 are  no pictures\n",
    "nothing but zero bytes": bytes(5000),
    "an image as a text in base64": b"data:image/png;base64,iVBORw0KGgo=",
    "an archive, to be unpacked": zipped(),
    "an archive, to be unpacked first": gzip.compress(encoded(rgb(), "PNG")),
    "what macOS keeps beside a file": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(50),
    "an array or a table": b"\x93NUMPY\1\0" + bytes(90),
    "DICOM": bytes(128) + b"DICM" + bytes(90),
    "a Photoshop document": b"8BPS\0\1" + bytes(90),
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "a video;": b"RIFF\x24\0\0\0AVI LIST" + bytes(90),
    "a raw photo": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "JPEG 2000": encoded(rgb(), "JPEG2000"),
    "JPEG 2000;": encoded(rgb(), "JPEG2000", no_jp2=True),
    "an icon of Windows": encoded(rgb(), "ICO"),
    "a DirectDraw surface": encoded(rgb(), "DDS"),
    "a PDF document": encoded(rgb(), "PDF"),
}


@pytest.mark.parametrize("said", OTHERS)
def test_other_files_are_called_what_they_are(said: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(OTHERS[said], max_pixels=10**6)
    assert caught.value.reason == "not-an-image"
    assert caught.value.detail.startswith(said)
    assert caught.value.detail.endswith(f"formats that are read: {', '.join(FORMATS)}")


def test_bytes_of_no_known_kind_are_not_guessed_at() -> None:
    with pytest.raises(BadImage, match=r"^not-an-image: formats that are read: JPEG"):
        decode(bytes(range(256)), max_pixels=10**6)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "Netpbm"])
def test_a_damaged_start_is_not_called_another_file(name: str) -> None:
    form = "PPM" if name == "Netpbm" else name.upper()
    data = encoded(Image.new("RGB", (40, 40)), form)
    with pytest.raises(BadImage, match=r"^decode-error|^truncated"):
        decode(data[:20] if form in ("BMP", "JPEG", "WEBP") else data[:8], max_pixels=10**6)
