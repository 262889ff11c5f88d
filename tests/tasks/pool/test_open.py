"""The pool: every image once, by content, test images apart, and nothing done twice."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prefect import flow

from tasks.images.listing import NoImages
from tasks.images.quarantine import SCHEMA
from tasks.images.sources import LISTING, Source
from tasks.pool import catalog, scan
from tasks.pool import open as pool_open
from tasks.pool.open import TooManyBadImages, open_pool
from tasks.pool.true_labels import BadLabels
from tasks.refs import PoolRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.files import names_in, remove
from tasks.storage.manifest import iter_tables, read_manifest
from tasks.storage.tables import read_table
from tasks.storage.uris import join

ROOT = Path(__file__).parents[3]


def picture(seed: int, size: tuple[int, int] = (12, 8)) -> bytes:
    """Return a PNG that no other seed gives; `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def memory() -> RuntimeSpec:
    """Return a workspace in memory, where shards are scanned in this process, without Ray."""
    return RuntimeSpec(workspace=f"memory://{uuid4().hex}/w")


def pool_of(images: Path | str, runtime: RuntimeSpec, **others: Any) -> PoolRef:
    spec = PoolSpec(images=str(images), **{"classes": "a,b", **others})
    return open_pool.fn(spec, runtime)


def rows_of(ref: PoolRef, kind: str = "images") -> list[dict[str, Any]]:
    tables = iter_tables(join(ref.uri, kind))
    return [row for table in tables for row in table.to_pylist()]


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [Path(row["uri"]).name for row in rows]


# --- what is in it --------------------------------------------------------------------------


def test_rows_say_what_the_files_are(tmp_path: Path, memory: RuntimeSpec) -> None:
    files = {'a\'b*/ü "1".png': picture(1), "x'); DROP--/2.PNG": picture(2, (5, 7))}
    root = tree(tmp_path / "a'b*", files)
    ref = pool_of(root, memory)
    assert [{**row, "uri": row["uri"].removeprefix(f"{root}/")} for row in rows_of(ref)] == [
        {
            "image_id": hashlib.sha256(data).hexdigest(),
            "uri": name,
            "width": width,
            "height": height,
            "bytes": len(data),
            "split": "pool",
            "label": None,
            "duplicate_of": None,
        }
        for (name, data), (width, height) in zip(files.items(), [(12, 8), (5, 7)], strict=True)
    ]
    assert (ref.rows, ref.num_pool, ref.num_test, ref.num_quarantined) == (2, 2, 0, 0)
    assert (ref.classes, ref.labeled, ref.resumed) == (("a", "b"), False, False)


def test_the_files_have_the_agreed_columns(tmp_path: Path, memory: RuntimeSpec) -> None:
    ref = pool_of(tree(tmp_path, {"1.png": picture(1)}), memory)
    (images,) = iter_tables(join(ref.uri, "images"))
    (bad,) = iter_tables(join(ref.uri, "quarantine"))
    assert images.schema.equals(catalog.IMAGES)
    assert bad.schema.equals(SCHEMA)
    assert bad.num_rows == 0
    assert next(iter_tables(ref.uri)).equals(images)


def test_duplicates_name_the_first(tmp_path: Path, memory: RuntimeSpec) -> None:
    same = picture(1)
    root = tree(tmp_path, {"a.png": same, "b.png": picture(2), "c.png": same, "d.png": same})
    ref = pool_of(root, memory, rows_per_shard=2)
    first = str(root / "a.png")
    assert [row["duplicate_of"] for row in rows_of(ref)] == [None, None, first, first]
    assert (ref.num_pool, ref.num_duplicates) == (2, 2)


def test_an_image_in_both_splits_is_test_only(tmp_path: Path, memory: RuntimeSpec) -> None:
    pool = tree(tmp_path / "a_pool", {"1.png": picture(1), "2.png": picture(2)})
    test = tree(tmp_path / "b_test", {"9.png": picture(1), "8.png": picture(3)})
    ref = pool_of(pool, memory, test=str(test))
    used = {(r["split"], Path(r["uri"]).name): r["duplicate_of"] for r in rows_of(ref)}
    assert used == {
        ("pool", "1.png"): str(test / "9.png"),
        ("pool", "2.png"): None,
        ("test", "9.png"): None,
        ("test", "8.png"): None,
    }
    assert (ref.num_pool, ref.num_test, ref.num_duplicates) == (1, 2, 1)


def test_a_test_folder_inside_the_images_is_test_only(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": picture(1), "test/2.png": picture(2)})
    ref = pool_of(root, memory, test=str(root / "test"))
    trained = [r for r in rows_of(ref) if r["split"] == "pool" and r["duplicate_of"] is None]
    assert names_of(trained) == ["1.png"]


def test_splits_of_a_parquet(tmp_path: Path, memory: RuntimeSpec) -> None:
    images = [picture(seed) for seed in (0, 1, 2, 3, 0)]
    splits = ["train", "test", None, "TEST", "test"]
    table = pa.table({"image": images, "split": splits, "label": ["a", "b", "a", None, "b"]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    ref = pool_of(tmp_path / "t.parquet", memory, labels="column", rows_per_shard=3)
    rows = rows_of(ref)
    assert [row["uri"].rpartition("#")[2] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["split"] for row in rows] == ["pool", "test", "pool", "test", "test"]
    assert [row["label"] for row in rows] == ["a", "b", "a", None, "b"]
    assert rows[0]["duplicate_of"] == f"{tmp_path}/t.parquet#4"
    assert (ref.num_pool, ref.num_test, ref.labeled) == (1, 3, True)


def test_a_parquet_of_names(tmp_path: Path, memory: RuntimeSpec) -> None:
    tree(tmp_path, {"d/1.png": picture(1), "2.png": picture(2)})
    uris = ["1.png", "../2.png", str(tmp_path / "2.png"), "no.png", None]
    pq.write_table(pa.table({"uri": uris, "label": list("abaaa")}), tmp_path / "d" / "t.parquet")
    ref = pool_of(tmp_path / "d" / "t.parquet", memory, labels="column")
    assert names_of(rows_of(ref)) == ["1.png", "2.png", "2.png"]
    assert [row["label"] for row in rows_of(ref)] == ["a", "b", "a"]
    assert [row["reason"] for row in rows_of(ref, "quarantine")] == ["unreadable"] * 2


def test_labels_are_not_carried_unless_asked(tmp_path: Path, memory: RuntimeSpec) -> None:
    pq.write_table(pa.table({"image": [picture(1)], "label": ["a"]}), tmp_path / "t.parquet")
    ref = pool_of(tmp_path / "t.parquet", memory)
    assert [row["label"] for row in rows_of(ref)] == [None]
    for name in fsspec.filesystem("memory").find(memory.workspace):
        if name.endswith(".parquet"):
            table = read_table(f"memory://{name}")
            assert "label" not in table.column_names or set(table["label"].to_pylist()) == {None}


def test_labels_of_folders(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"x/a/1.png": picture(1), "b/2.png": picture(2), "3.png": picture(3)})
    ref = pool_of(root, memory, labels="folders", classes=None)
    labels = {Path(row["uri"]).name: row["label"] for row in rows_of(ref)}
    assert labels == {"1.png": "a", "2.png": "b", "3.png": None}
    assert ref.classes == ("a", "b")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_of_a_file(tmp_path: Path, memory: RuntimeSpec, kind: str) -> None:
    names = ["x/o'1.png", "2.png", "3.png"]
    root = tree(tmp_path / "d", {name: picture(i) for i, name in enumerate(names)})
    given = {"uri": ["x/o'1.png", str(root / "2.png"), "other.png"], "label": ["a", "b", "a"]}
    path = tmp_path / f"labels.{kind}"
    if kind == "csv":
        lines = [f'"{u}",{label}' for u, label in zip(*given.values(), strict=True)]
        path.write_text("\n".join(["uri,label", *lines]))
    else:
        pq.write_table(pa.table(given), path)
    labels = {row["uri"]: row["label"] for row in rows_of(pool_of(root, memory, labels=str(path)))}
    assert labels == {f"{root}/{n}": v for n, v in zip(names, ["a", "b", None], strict=True)}


def test_a_label_file_about_other_images(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "d", {"1.png": picture(1)})
    (tmp_path / "l.csv").write_text("uri,label\nother.png,a\n")
    with pytest.raises(BadLabels, match="none of the 1 images"):
        pool_of(root, memory, labels=str(tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text("uri,label\n1.png,a\n1.png,b\n")
    with pytest.raises(BadLabels, match=r"'1.png' is given two different labels"):
        pool_of(root, memory, labels=str(tmp_path / "l.csv"))


def test_a_bucket_gives_the_same_pool_as_a_folder(tmp_path: Path, memory: RuntimeSpec) -> None:
    files = {"a/1.png": picture(1), "b/2.png": picture(2), "b/bad.png": b"text"}
    bucket = f"memory://{uuid4().hex}/d"
    for name, data in files.items():
        with fsspec.open(f"{bucket}/{name}", "wb") as file:
            file.write(data)
    here = rows_of(pool_of(tree(tmp_path, files), memory, labels="folders"))
    there = rows_of(pool_of(bucket, memory, labels="folders"))
    assert names_of(here) == names_of(there)
    assert [{**row, "uri": ""} for row in here] == [{**row, "uri": ""} for row in there]
    assert there[0]["uri"] == f"{bucket}/a/1.png"


# --- nothing is done twice ------------------------------------------------------------------


def test_a_second_run_computes_nothing(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": picture(1), "2.png": b""})
    first = pool_of(root, memory)
    before = {k: v.modified for k, v in MemoryFileSystem.store.items()}
    second = pool_of(root, memory)
    assert second == first.model_copy(update={"resumed": True})
    assert before == {k: v.modified for k, v in MemoryFileSystem.store.items()}


def test_only_missing_parts_are_scanned(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {f"{i}.png": picture(i) for i in range(7)})
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
    root = tree(tmp_path, {"1.png": picture(1)})
    first = pool_of(root, memory, classes="a,b")
    status = (root / "1.png").stat()
    (root / "1.png").write_bytes(b"x" * status.st_size)  # whoever reads it again will see
    os.utime(root / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = pool_of(root, memory, classes="b,a")
    assert second.digest != first.digest
    assert rows_of(second) == rows_of(first)


def test_a_killed_driver_goes_on_where_it_was(tmp_path: Path, ray_session: None) -> None:
    root = tree(tmp_path / "d", {f"{i:02}.png": picture(i) for i in range(12)})
    code = (
        "import os, sys; from tasks import scan, pool; from tasks.specs import *\n"
        "def local(function, items, *, runtime):\n"
        "    for place, item in enumerate(items):\n"
        "        if place == 2: os.kill(os.getpid(), 9)\n"
        "        yield place, function(*item)\n"
        "pool.run_tasks = local\n"
        "spec = PoolSpec(images=sys.argv[1], classes='a,b', rows_per_shard=3)\n"
        "pool.open_pool.fn(spec, RuntimeSpec(workspace=sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), str(tmp_path / "w")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(tmp_path.glob("w/pool/*/manifest.json"))
    parts = sorted(tmp_path.glob("w/scan/*/part-*"))
    before = {part: part.stat().st_mtime_ns for part in parts}
    assert len(parts) == 2
    time.sleep(0.01)
    ref = pool_of(root, RuntimeSpec(workspace=str(tmp_path / "w")), rows_per_shard=3)
    assert names_of(rows_of(ref)) == [f"{i:02}.png" for i in range(12)]
    assert {part: part.stat().st_mtime_ns for part in parts} == before


# --- digests --------------------------------------------------------------------------------


def test_every_change_of_the_input_is_another_digest(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "d", {"a/1.png": picture(1), "b/2.png": picture(2)})
    extra = tree(tmp_path / "e", {"3.png": picture(3)})
    labels = tmp_path / "l.csv"
    labels.write_text("uri,label\na/1.png,a\n")
    base: dict[str, Any] = {"images": root, "classes": "a,b"}
    changes: list[dict[str, Any]] = [
        {},
        {"classes": "b,a"},
        {"classes": "a,b,c"},
        {"test": str(extra)},
        {"labels": "folders"},
        {"labels": str(labels)},
        {"rows_per_shard": 7},
        {"max_bytes": 10**6},
        {"max_pixels": 10**6},
    ]
    digests = [pool_of(**{**base, **change}, runtime=memory).digest for change in changes]
    labels.write_text("uri,label\na/1.png,b\n")
    digests.append(pool_of(**base, labels=str(labels), runtime=memory).digest)
    os.utime(root / "a" / "1.png", ns=(1, 1))
    digests.append(pool_of(**base, runtime=memory).digest)
    (root / "b" / "2.png").rename(root / "b" / "3.png")
    digests.append(pool_of(**base, runtime=memory).digest)
    (root / "b" / "4.png").write_bytes(picture(4))
    digests.append(pool_of(**base, runtime=memory).digest)
    assert len(set(digests)) == len(digests)


def test_the_digest_does_not_depend_on_limits_that_only_stop(
    tmp_path: Path, memory: RuntimeSpec
) -> None:
    root = tree(tmp_path, {"1.png": picture(1), "2.png": b""})
    first = pool_of(root, memory, max_quarantined=0.5)
    assert pool_of(root, memory, max_quarantined=0.9).digest == first.digest
    with pytest.raises(TooManyBadImages):
        pool_of(root, memory, max_quarantined=0.4)


# --- shards ---------------------------------------------------------------------------------


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
    images = [picture(seed % 9) if seed % 4 else b"bad" for seed in range(14)]
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


# --- when to stop ---------------------------------------------------------------------------


def test_too_many_bad_images_stop_with_the_reasons(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(
        tmp_path, {f"{i}.png": b"text" for i in range(3)} | {"9.png": picture(9), "8.png": b""}
    )
    with pytest.raises(TooManyBadImages, match=r"4 of 5 \(3 x not-an-image, 1 x empty-file"):
        pool_of(root, memory)
    assert pool_of(root, memory, max_quarantined=0.8).num_quarantined == 4


def test_hopeless_input_stops_early(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {f"{i}.png": b"" for i in range(10)})
    with pytest.raises(TooManyBadImages, match="6 of 10"):
        pool_of(root, memory, rows_per_shard=2)


def test_nothing_is_left(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "bad", {"1.png": b""})
    with pytest.raises(NoImages, match=r"none is left \(1 x empty-file"):
        pool_of(root, memory, max_quarantined=1)
    pq.write_table(pa.table({"image": [picture(1)], "split": ["test"]}), tmp_path / "t.parquet")
    with pytest.raises(NoImages, match="all 1 are test images"):
        pool_of(tmp_path / "t.parquet", memory)
    spec = PoolSpec(images=str(tmp_path / "t.parquet"))
    ref = open_pool.fn(spec, memory, for_training=False)
    assert (ref.classes, ref.num_test) == ((), 1)


def test_a_failure_that_may_pass_is_tried_again_by_the_next_run(
    tmp_path: Path, memory: RuntimeSpec
) -> None:
    table = pa.table({"uri": ["1.png", "2.png", "3.png"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TooManyBadImages, match=r"3 of 3 \(3 x unreadable"):
        pool_of(tmp_path / "t.parquet", memory)
    tree(tmp_path, {f"{i}.png": picture(i) for i in (1, 2, 3)})
    assert pool_of(tmp_path / "t.parquet", memory).num_pool == 3


@pytest.mark.parametrize(("error", "num_runs"), [(NoImages("none"), 1), (TimeoutError("slow"), 3)])
def test_only_failures_that_may_pass_are_tried_again(
    memory: RuntimeSpec,
    prefect_session: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    num_runs: int,
) -> None:
    runs: list[PoolSpec] = []

    def fail(spec: PoolSpec) -> list[Source]:
        runs.append(spec)
        raise error

    @flow
    def one_pool() -> PoolRef:
        task = open_pool.with_options(retry_delay_seconds=0)
        return task(PoolSpec(images="d", classes="a,b"), memory)

    monkeypatch.setattr(pool_open, "list_sources", fail)
    with pytest.raises(type(error)):
        one_pool()
    assert len(runs) == num_runs


# --- in parallel ----------------------------------------------------------------------------


def test_workers_find_the_same_pool(tmp_path: Path, memory: RuntimeSpec, ray_session: None) -> None:
    root = tree(tmp_path / "d", {f"{i}.png": picture(i) for i in range(9)} | {"bad.png": b"x"})
    ref = pool_of(root, RuntimeSpec(workspace=str(tmp_path / "w")), rows_per_shard=4)
    assert rows_of(ref) == rows_of(pool_of(root, memory, rows_per_shard=4))
    assert rows_of(ref, "quarantine")[0]["reason"] == "not-an-image"
    with pytest.raises(NoImages, match="none is left"):
        pool_of(tree(tmp_path / "e", {"1.png": b""}), memory, max_quarantined=1)
