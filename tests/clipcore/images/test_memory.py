"""The memory of one image: what the documentation states, measured in processes of their own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcore.image_files import MAX_ASPECT_RATIO
from clipcore.images import BYTES_PER_PIXEL
from tests.worlds.image_files import encoded

SIZE = 64
NOISE = 12 * 2**20  # bytes that a process takes more or less from time to time
# Each file is read by a fork, so that the peak of one is not hidden by that of another.
PROGRAM = """
import os, sys
from clipcore.image_files import BadImage
from clipcore.images import Preprocess, read_pixels

def peak(data):
    child = os.fork()
    if not child:
        try:
            preprocess = Preprocess(int(sys.argv[1]), (0.0,) * 3, (1.0,) * 3)
            data and read_pixels(data, preprocess, max_pixels=10**8)
        except BadImage as error:
            os._exit(1)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss * 1024

for path in sys.argv[2:]:
    with open(path, "rb") as file:
        data = file.read()
    (_, before), (status, after) = peak(None), peak(data)
    print(os.waitstatus_to_exitcode(status), after - before)
"""


def peaks(folder: Path, files: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    """Return for each file whether it was refused, and the most memory that reading it took."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, str(SIZE), *(str(folder / name) for name in files)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    numbers = [(int(status), int(held)) for status, held in map(str.split, said)]
    return dict(zip(files, numbers, strict=True))


def stripes(width: int, height: int) -> Image.Image:
    """Return a picture of little content, so that its files are small."""
    row = np.arange(width, dtype=np.uint8) // 8 * 8
    values = np.broadcast_to(row[None, :, None], (height, width, 4)).copy()
    values[: height // 2, :, 1] = 200
    return Image.fromarray(values)


def test_reading_an_image_takes_the_stated_memory_at_most(tmp_path: Path) -> None:
    width, height = 1600, 1200
    image, exif = stripes(width, height), Image.Exif()
    exif[0x0112] = 6
    how: list[tuple[str, str, dict[str, Any]]] = [
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0, "exif": exif}),
        ("JPEG", "CMYK", {"progressive": True, "exif": exif}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "LA", {"exif": exif}),
        ("TIFF", "RGBA", {"exif": exif, "compression": "tiff_lzw"}),
        ("TIFF", "LAB", {"exif": exif}),
        ("WEBP", "RGBA", {"exif": exif, "method": 0}),
        ("WEBP", "RGBA", {"exif": exif, "lossless": True, "method": 0, "quality": 0}),
        ("WEBP", "RGBA", {"save_all": True, "append_images": [image.rotate(3)], "method": 0}),
        ("AVIF", "RGBA", {"exif": exif, "speed": 10, "subsampling": "4:4:4"}),
        ("PNG", "I;16", {"exif": exif}),
        ("TIFF", "I;16", {"exif": exif, "compression": "tiff_lzw"}),
        ("PPM", "I;16", {}),
        ("GIF", "RGB", {}),
    ]
    files = {
        f"{number}-{mode}.{form}": encoded(image.convert("RGB").convert(mode), form, **options)
        if mode in ("CMYK", "LAB")
        else encoded(image.convert(mode), form, **options)
        for number, (form, mode, options) in enumerate(how)
    }
    for name, (status, held) in peaks(tmp_path, files).items():
        assert status == 0, name
        bound = BYTES_PER_PIXEL * width * height + 4 * len(files[name])
        assert held < bound + NOISE, (name, held / (width * height))


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, None])
def test_thin_images_take_no_more(tmp_path: Path, turn: Image.Transpose | None) -> None:
    """Beyond the limit nothing is decoded; at the limit the resized picture is what counts."""
    sizes = {"giant": (1, 1_000_000), "long": (4, 100_000), "limit": (10, 10 * MAX_ASPECT_RATIO)}
    images = {name: Image.new("L", size) for name, size in sizes.items()}
    files = {
        name: encoded(image if turn is None else image.transpose(turn), "PNG")
        for name, image in images.items()
    }
    found = peaks(tmp_path, files)
    assert [status for status, _ in found.values()] == [1, 1, 0]
    assert max(held for _, held in found.values()) < 4 * MAX_ASPECT_RATIO * SIZE**2 + NOISE
