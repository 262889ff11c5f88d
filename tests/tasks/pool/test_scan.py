"""A folder of everything that ever broke a loader: the good images are there, the bad explained."""

import hashlib
import io
import os
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
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.images.sources import LISTING, Source
from tasks.pool import scan
from tasks.pool.open import open_pool
from tasks.refs import PoolRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.files import names_in, remove
from tasks.storage.manifest import read_manifest
from tasks.storage.uris import join
from tests.worlds.images import encoded_image
from tests.worlds.pools import pool_of, rows_of, tree

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


@cache
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


def test_only_missing_parts_are_scanned(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {f"{i}.png": encoded_image(i) for i in range(7)})
    first = pool_of(root, memory, rows_per_shard=2)
    expected = rows_of(first)
    (name,) = names_in(join(memory.workspace, "scan"))
    folder = join(memory.workspace, "scan", name)
    parts = sorted(n for n in names_in(folder) if n.startswith("part-"))
    remove(first.uri)
    remove(join(folder, parts[1]))
    store = MemoryFileSystem.store
    before = {key: value.modified for key, value in store.items() if name in key}
    second = pool_of(root, memory, rows_per_shard=2)
    after = {key: value.modified for key, value in store.items() if name in key}
    assert [key for key in after if after[key] != before.get(key)] == [
        f"{folder.removeprefix('memory:/')}/{parts[1]}"
    ]
    assert rows_of(second) == expected
    assert not second.resumed


def test_another_class_list_reads_no_image_again(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": encoded_image(1)})
    first = pool_of(root, memory, classes="a,b")
    status = (root / "1.png").stat()
    (root / "1.png").write_bytes(b"x" * status.st_size)  # whoever reads it again will see
    os.utime(root / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = pool_of(root, memory, classes="b,a")
    assert second.digest != first.digest
    assert rows_of(second) == rows_of(first)


def source(rows: list[int], kind: str) -> Source:
    count = len(rows)
    columns = [[f"f{i}" for i in range(count)], rows, [1] * count, ["v"] * count]
    listing = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, LISTING, strict=True)], LISTING
    )
    return Source("u", "/", "images" if kind == "images" else "tables", listing)


@given(
    files=st.lists(st.integers(1, 40), max_size=30),
    tests=st.lists(st.integers(1, 40), max_size=5),
    images=st.booleans(),
    rows_per_shard=st.integers(1, 50),
)
def test_shards_hold_every_row_once_in_order(
    files: list[int],
    tests: list[int],
    *,
    images: bool,
    rows_per_shard: int,
) -> None:
    files = [1] * len(files) if images else files
    given_sources = [source(files, "images" if images else "tables"), source(tests, "tables")]
    pieces = scan.cut(given_sources, rows_per_shard)
    spans = scan.spans(pieces, rows_per_shard)
    covered = [place for span in spans for place in range(span.first, span.first + span.rows)]
    assert covered == list(range(pieces.num_rows))
    rows = pieces.to_pylist()
    for span in spans:
        inside = sum(row["rows"] for row in rows[span.first : span.first + span.rows])
        assert 0 < inside == span.num_images <= rows_per_shard
    seen = [
        (row["split"], row["uri"], (row["first"] or 0) + i)
        for row in rows
        for i in range(row["rows"])
    ]
    expected = [
        (split, f"f{file}", i)
        for split, counts in (("pool", files), ("test", tests))
        for file, count in enumerate(counts)
        for i in range(count)
    ]
    assert seen == expected


@pytest.mark.parametrize("rows_per_shard", [1, 2, 3, 5, 64])
def test_the_pool_does_not_depend_on_the_shard_size(
    tmp_path: Path, memory: RuntimeSpec, rows_per_shard: int
) -> None:
    images = [encoded_image(seed % 9) if seed % 4 else b"bad" for seed in range(14)]
    pq.write_table(pa.table({"image": images[:8]}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"image": images[8:]}), tmp_path / "b.parquet", row_group_size=4)
    ref = pool_of(tmp_path, memory, rows_per_shard=rows_per_shard)
    uris = [f"{tmp_path}/a.parquet#{i}" for i in range(8)]
    uris += [f"{tmp_path}/b.parquet#{i}" for i in range(6)]
    good = [
        (u, hashlib.sha256(i).hexdigest()) for u, i in zip(uris, images, strict=True) if i != b"bad"
    ]
    assert [(row["uri"], row["image_id"]) for row in rows_of(ref)] == good
    assert [row["uri"] for row in rows_of(ref, "quarantine")] == uris[::4]
    sizes = [part.rows for part in read_manifest(ref.uri).parts]  # type: ignore[union-attr]
    assert max(sizes) <= rows_per_shard
    assert sum(sizes) == len(good) == ref.rows
