"""A folder of everything that ever broke a loader: the good images are there, the bad explained."""

import hashlib
import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.pool.open import open_pool
from tasks.refs import PoolRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import join

EXIF_ORIENTATION = 0x0112
NUM_GOOD = 200


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """Return a valid grey PNG of any size, written by hand, so that no pixel is ever in memory."""
    compress = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    rows = b"".join(compress.compress(row) for _ in range(height)) + compress.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return encode(noise(1), "JPEG", exif=exif)


@cache
def good() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Return images that are odd and fine, with the size (width, height) that a viewer shows."""
    frames = [noise(seed) for seed in (2, 3)]
    deep = np.random.default_rng(4).integers(0, 2**16, (16, 24), dtype=np.uint16)
    jpeg = encode(noise(5), "JPEG")
    named = {
        "cmyk.jpg": (encode(noise(6).convert("CMYK"), "JPEG"), (24, 16)),
        "animated.gif": (
            encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            (24, 16),
        ),
        "rotated.jpg": (rotated(6), (16, 24)),
        "upside-down.jpg": (rotated(3), (24, 16)),
        "thin.png": (png(1, 100_000), (1, 100_000)),
        "16-bit.png": (encode(Image.fromarray(deep), "PNG"), (24, 16)),
        "palette.png": (encode(noise(7).convert("P"), "PNG"), (24, 16)),
        "alpha.png": (encode(noise(8).convert("RGBA"), "PNG"), (24, 16)),
        "really-a-jpeg.png": (jpeg, (24, 16)),
        "photo.webp": (encode(noise(9), "WEBP", lossless=True), (24, 16)),
        "scan.tif": (encode(noise(10), "TIFF"), (24, 16)),
        "map.bmp": (encode(noise(11), "BMP"), (24, 16)),
        "grey.pgm": (encode(noise(12).convert("L"), "PPM"), (24, 16)),
        "stereo.jpg": (
            encode(noise(13), "MPO", save_all=True, append_images=[noise(14)]),
            (24, 16),
        ),
    }
    plain = {
        f"good/{i:03}.jpg": (encode(noise(100 + i), "JPEG"), (24, 16)) for i in range(NUM_GOOD)
    }
    return {**named, **plain}


@cache
def bad() -> dict[str, tuple[bytes, str]]:
    """Return files that cannot be used, with the reason."""
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (70 * 2**20)))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
    return {
        "empty.jpg": (b"", "empty-file"),
        "text.png": (b"this is no picture\n", "not-an-image"),
        "svg.png": (svg, "not-an-image"),
        "page.jpg": (b"<html><body>404</body></html>", "not-an-image"),
        "huge.png": (png(20_000, 20_000), "too-many-pixels"),
        "text-bomb.png": (png(8, 8, bomb), "decode-error"),
        "head.jpg": (b"\xff\xd8\xff", "*"),
        "head.png": (png(8, 8)[:20], "*"),
        "large.bmp": (encode(noise(20, 2000, 200), "BMP"), "too-large-file"),
        "i.ppm": (b"P6\n-1 5\n255\n", "*"),
    }


@cache
def later() -> dict[str, bytes]:
    """Return files whose header is whole: the pool takes them, embedding finds them out."""
    jpeg = encode(noise(30, 64, 64), "JPEG")
    return {"truncated.jpg": jpeg[: len(jpeg) // 2], "truncated.png": png(64, 64)[:-30]}


@pytest.fixture(scope="module", params=["folder", "parquet"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PoolRef:
    root = tmp_path_factory.mktemp("hostile")
    files = {name: data for name, (data, _) in {**good(), **bad()}.items()} | later()
    if request.param == "folder":
        for name, data in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(data)
    else:
        pq.write_table(pa.table({"image": list(files.values())}), root / "t.parquet")
    spec = PoolSpec(images=str(root), classes="a,b", max_bytes=2**20, rows_per_shard=64)
    return open_pool.fn(spec, RuntimeSpec(workspace=f"memory://{uuid4().hex}"))


def rows_of(pool: PoolRef, kind: str) -> list[dict[str, Any]]:
    tables = iter_tables(join(pool.uri, kind))
    return [row for table in tables for row in table.to_pylist()]


def place_of(name: str, pool_uri: str) -> str:
    """Return the last part of the URI that a file has in the pool."""
    if "#" not in pool_uri:
        return name
    return f"t.parquet#{[*good(), *bad(), *later()].index(name)}"


def test_all_good_images_are_there(pool: PoolRef) -> None:
    rows = rows_of(pool, "images")
    found = {row["uri"]: (row["image_id"], row["width"], row["height"]) for row in rows}
    for name, (data, size) in good().items():
        place = place_of(name, rows[0]["uri"])
        (facts,) = [v for uri, v in found.items() if uri.endswith(f"/{place}")]
        assert facts == (hashlib.sha256(data).hexdigest(), *size), name


def test_each_bad_file_is_in_quarantine_with_its_reason(pool: PoolRef) -> None:
    rows = rows_of(pool, "quarantine")
    found = {row["uri"]: row for row in rows}
    assert len(rows) == len(bad()) == pool.num_quarantined
    for name, (data, reason) in bad().items():
        place = place_of(name, rows[0]["uri"])
        (row,) = [row for uri, row in found.items() if uri.endswith(f"/{place}")]
        assert row["stage"] == "pool"
        assert row["reason"] == reason or reason == "*", (name, row)
        assert row["detail"]
        assert row["bytes"] == len(data) or (reason == "too-large-file" and row["bytes"] is None)


def test_nothing_is_lost(pool: PoolRef) -> None:
    num_files = len(good()) + len(bad()) + len(later())
    assert pool.rows + pool.num_quarantined == num_files
    assert pool.num_pool == pool.rows == len(good()) + len(later())


def test_the_20000_x_20000_image_is_small_and_valid() -> None:
    assert len(png(20_000, 20_000)) < 2**20
    image = Image.open(io.BytesIO(png(300, 200)))
    image.load()
    assert image.size == (300, 200)


def test_an_unreadable_folder_is_not_lost_in_silence(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.png").write_bytes(png(3, 3))
    try:
        list((tmp_path / "closed").iterdir())
        pytest.skip("this user may read every folder")
    except PermissionError:
        pass
    spec = PoolSpec(images=str(tmp_path), classes="a,b")
    ref = open_pool.fn(spec, RuntimeSpec(workspace=f"memory://{uuid4().hex}"))
    (row,) = rows_of(ref, "quarantine")
    assert row["reason"] == "unreadable"
