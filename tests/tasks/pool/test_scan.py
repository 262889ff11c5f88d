"""A folder of everything that ever broke a loader: the good images are there, the bad explained."""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipcore import image_files
from tasks.images.sources import read_images
from tasks.pool import scan
from tasks.pool.open import open_images
from tasks.refs import ImagesRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tests.worlds.images import encoded_image
from tests.worlds.pools import bad_rows_of, images_of, rows_of, tree

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


def text(size: int) -> bytes:
    """Return a chunk with so much text, packed small."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * size))


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
        "thin.png": (png(1, 100), (1, 100)),
        "much-text.png": (png(8, 8, text(70 * 2**20)), (8, 8)),
        "some-text.png": (png(7, 8, text(2**20)), (7, 8)),
        "camera.jfif": (encode(noise(15), "JPEG"), (24, 16)),
        "photo.avif": (encode(noise(16), "AVIF"), (24, 16)),
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
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
    return {
        "empty.jpg": (b"", "empty-file"),
        "text.png": (b"this is no picture\n", "not-an-image"),
        "svg.png": (svg, "not-an-image"),
        "page.jpg": (b"<html><body>404</body></html>", "not-an-image"),
        "huge.png": (png(20_000, 20_000), "too-many-pixels"),
        "thinner.png": (png(1, 1_000_000), "extreme-aspect-ratio"),
        "flat.gif": (encode(Image.new("L", (3000, 2)), "GIF"), "extreme-aspect-ratio"),
        "float.tif": (encode(Image.new("F", (9, 9)), "TIFF"), "unsupported-sample-format"),
        "int32.tiff": (encode(Image.new("I", (9, 9)), "TIFF"), "unsupported-sample-format"),
        "map.pfm": (encode(Image.new("F", (9, 9)), "PPM"), "unsupported-sample-format"),
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
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImagesRef:
    root = tmp_path_factory.mktemp("hostile")
    files = {name: data for name, (data, _) in {**good(), **bad()}.items()} | later()
    if request.param == "folder":
        for name, data in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(data)
    else:
        pq.write_table(pa.table({"image": list(files.values())}), root / "t.parquet")
    spec = PoolSpec(images=str(root), classes="a,b", max_bytes=2**20, rows_per_shard=64)
    return open_images.fn(spec, RuntimeSpec(workspace=f"memory://{uuid4().hex}"))


def place_of(name: str, pool_uri: str) -> str:
    """Return the last part of the URI that a file has in the pool."""
    if "#" not in pool_uri:
        return name
    return f"t.parquet#{[*good(), *bad(), *later()].index(name)}"


def test_all_good_images_are_there(pool: ImagesRef) -> None:
    rows = rows_of(pool)
    found = {row["uri"]: (row["image_id"], row["width"], row["height"]) for row in rows}
    for name, (data, size) in good().items():
        place = place_of(name, rows[0]["uri"])
        (facts,) = [v for uri, v in found.items() if uri.endswith(f"/{place}")]
        assert facts == (hashlib.sha256(data).hexdigest(), *size), name


def test_each_bad_file_is_in_quarantine_with_its_reason(pool: ImagesRef) -> None:
    rows = bad_rows_of(pool)
    found = {row["uri"]: row for row in rows}
    assert len(rows) == len(bad()) == pool.num_quarantined
    for name, (data, reason) in bad().items():
        place = place_of(name, rows[0]["uri"])
        (row,) = [row for uri, row in found.items() if uri.endswith(f"/{place}")]
        assert row["stage"] == "pool"
        assert row["reason"] == reason or reason == "*", (name, row)
        assert row["detail"]
        assert row["bytes"] == len(data) or (reason == "too-large-file" and row["bytes"] is None)


def test_nothing_is_lost(pool: ImagesRef) -> None:
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
    ref = open_images.fn(spec, RuntimeSpec(workspace=f"memory://{uuid4().hex}"))
    (row,) = bad_rows_of(ref)
    assert row["reason"] == "unreadable"


@pytest.mark.parametrize("rows_per_shard", [1, 2, 3, 5, 64])
def test_the_images_do_not_depend_on_the_shard_size(
    tmp_path: Path, memory: RuntimeSpec, rows_per_shard: int
) -> None:
    images = [encoded_image(seed % 9) if seed % 4 else b"bad" for seed in range(14)]
    pq.write_table(pa.table({"image": images[:8]}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"image": images[8:]}), tmp_path / "b.parquet", row_group_size=4)
    ref = images_of(tmp_path, memory, rows_per_shard=rows_per_shard)
    uris = [f"{tmp_path}/a.parquet#{i}" for i in range(8)]
    uris += [f"{tmp_path}/b.parquet#{i}" for i in range(6)]
    good = [
        (u, hashlib.sha256(i).hexdigest()) for u, i in zip(uris, images, strict=True) if i != b"bad"
    ]
    assert [(row["uri"], row["image_id"]) for row in rows_of(ref)] == good
    assert [row["uri"] for row in bad_rows_of(ref)] == uris[::4]
    ids = [table["image_id"].to_pylist() for table in iter_tables(ref.uri)]
    assert [image for part in ids for image in part] == sorted(image for _, image in good)
    assert max(len(set(part)) for part in ids) <= rows_per_shard
    assert len([image for part in ids for image in set(part)]) == len({i for _, i in good})


# --- what is listed again is not read again -------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URIs of all images whose bytes are asked for."""
    asked: list[str] = []

    def watched(uris: Sequence[str], **limits: Any) -> Iterator[tuple[int, bytes | OSError]]:
        asked.extend(uris)
        yield from read_images(uris, **limits)

    monkeypatch.setattr(scan, "read_images", watched)
    return asked


@pytest.mark.parametrize("place", ["folder", "bucket", "rows"])
def test_only_what_is_new_is_read_whatever_else_is_listed(
    tmp_path: Path, memory: RuntimeSpec, reads: list[str], place: str
) -> None:
    root = f"memory://{uuid4().hex}" if place == "bucket" else str(tmp_path)

    def put(name: str, *seeds: int) -> None:
        for seed in seeds if place != "rows" else ():
            with fsspec.open(f"{root}/{name}/{seed}.png", "wb") as file:
                file.write(encoded_image(seed))
        if place == "rows":
            table = pa.table({"image": [encoded_image(seed) for seed in seeds]})
            pq.write_table(table, f"{root}/{name}.parquet")

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    put("a", 1, 2, 3)
    first = images_of(root, memory, rows_per_shard=2)
    assert len(reads) == 3
    assert images_of(root, memory, rows_per_shard=7).digest == first.digest
    assert images_of(root, memory, classes="c,d").digest == first.digest
    assert len(reads) == 3, "another cut, and other classes"
    put("b", 4, 5)
    both = images_of(root, memory)
    assert (len(reads), both.num_pool) == (5, 5)
    here = f"{root}/b.parquet" if place == "rows" else f"{root}/b"
    assert images_of(here, memory).num_pool == 2
    assert len(reads) == 5, "of another set of images"


def test_a_file_that_changed_and_a_failure_that_may_pass_are_read_again(
    tmp_path: Path, memory: RuntimeSpec, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, {f"{i}.png": encoded_image(i) for i in (1, 2, 3)} | {"4.png": b"bad"})
    fails = {str(root / "2.png")}
    read = scan.read_images

    def failing(uris: Sequence[str], **limits: Any) -> Iterator[tuple[int, bytes | OSError]]:
        for index, data in read(uris, **limits):
            yield index, TimeoutError("slow") if uris[index] in fails else data

    monkeypatch.setattr(scan, "read_images", failing)
    first = images_of(root, memory)
    assert [row["reason"] for row in bad_rows_of(first)] == ["unreadable", "not-an-image"]
    fails.clear()
    reads.clear()
    second = images_of(root, memory)
    assert reads == [str(root / "2.png")], "the bad one is remembered, with its reason"
    assert (first.num_pool, second.num_pool, second.num_quarantined) == (2, 3, 1)
    assert images_of(root, memory).resumed
    reads.clear()
    os.utime(root / "1.png", ns=(1, 1))
    assert images_of(root, memory).digest == second.digest
    assert reads == [str(root / "1.png")]


def test_what_a_package_would_read_is_read_once_it_is_there(
    tmp_path: Path, memory: RuntimeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phones rename such files to .jpg."""
    root = tree(tmp_path, {"1.png": encoded_image(1), "2.jpg": encode(noise(2), "AVIF")})
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "FORMATS", ("PNG", "JPEG"))
        first = images_of(root, memory)
    assert [row["reason"] for row in bad_rows_of(first)] == ["no-decoder"]
    second = images_of(root, memory)
    assert (first.num_pool, second.num_pool, second.num_quarantined) == (1, 2, 0)


def test_limits_do_not_spoil_what_is_remembered(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": encoded_image(1, (8, 8)), "2.png": encoded_image(2, (30, 30))})
    small = {"max_pixels": 100}, {"max_bytes": len(encoded_image(1, (8, 8)))}
    reasons = ["too-many-pixels", "too-large-file"]
    for limit, reason in zip(small, reasons, strict=True):
        ref = images_of(root, memory, **limit)
        assert [row["reason"] for row in bad_rows_of(ref)] == [reason]
        assert bad_rows_of(ref)[0]["detail"]
        assert images_of(root, memory).num_pool == 2
