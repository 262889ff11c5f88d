"""The images of a run: each once, by content, test images apart, and nothing read twice."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from prefect import flow

from tasks.images.listing import NoImages
from tasks.pool import open as pool_open
from tasks.pool.open import TooManyBadImages, open_images
from tasks.pool.understood import Understood
from tasks.refs import ImagesRef
from tasks.specs import PoolSpec, RuntimeSpec
from tests.worlds.images import encoded_image
from tests.worlds.pools import bad_rows_of, images_of, names_of, opened, rows_of, tree

ROOT = Path(__file__).parents[3]


# --- what is in it --------------------------------------------------------------------------


def test_rows_say_what_the_files_are(tmp_path: Path, memory: RuntimeSpec) -> None:
    files = {'a\'b*/ü "1".png': encoded_image(1), "x'); DROP--/2.PNG": encoded_image(2, (5, 7))}
    root = tree(tmp_path / "a'b*", files)
    ref = images_of(root, memory)
    assert [{**row, "uri": row["uri"].removeprefix(f"{root}/")} for row in rows_of(ref)] == [
        {
            "image_id": hashlib.sha256(data).hexdigest(),
            "uri": name,
            "name": name,
            "width": width,
            "height": height,
            "bytes": len(data),
            "split": "pool",
            "duplicate_of": None,
        }
        for (name, data), (width, height) in zip(files.items(), [(24, 20), (5, 7)], strict=True)
    ]
    assert (ref.rows, ref.num_pool, ref.num_test, ref.num_quarantined) == (2, 2, 0, 0)
    assert not ref.resumed


def test_a_bucket_gives_the_same_images_as_a_folder(tmp_path: Path, memory: RuntimeSpec) -> None:
    files = {"a/1.png": encoded_image(1), "b/2.png": encoded_image(2), "b/bad.png": b"text"}
    bucket = f"memory://{uuid4().hex}/d"
    for name, data in files.items():
        with fsspec.open(f"{bucket}/{name}", "wb") as file:
            file.write(data)
    here, task_here = opened(tree(tmp_path, files), memory, labels="folders")
    there, task_there = opened(bucket, memory, labels="folders")
    assert [{**row, "uri": ""} for row in rows_of(here)] == [
        {**row, "uri": ""} for row in rows_of(there)
    ]
    assert rows_of(there)[0]["uri"] == f"{bucket}/a/1.png"
    assert (here.digest, task_here.digest) == (there.digest, task_there.digest)
    assert here.uri != there.uri


# --- nothing is done twice ------------------------------------------------------------------


def test_a_second_run_computes_nothing(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": encoded_image(1), "2.png": b""})
    first = images_of(root, memory)
    before = {k: v.modified for k, v in MemoryFileSystem.store.items()}
    second = images_of(root, memory)
    assert second == first.model_copy(update={"resumed": True})
    assert before == {k: v.modified for k, v in MemoryFileSystem.store.items()}


def test_a_killed_driver_goes_on_where_it_was(tmp_path: Path, ray_session: None) -> None:
    root = tree(tmp_path / "d", {f"{i:02}.png": encoded_image(i) for i in range(12)})
    code = (
        "import os, sys; from tasks.pool import open as pool; from tasks.specs import *\n"
        "def local(function, items, *, runtime):\n"
        "    for place, item in enumerate(items):\n"
        "        if place == 2: os.kill(os.getpid(), 9)\n"
        "        yield place, function(*item)\n"
        "pool.run_tasks = local\n"
        "spec = PoolSpec(images=sys.argv[1], classes='a,b', rows_per_shard=3)\n"
        "pool.open_images.fn(spec, RuntimeSpec(workspace=sys.argv[2]))"
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
    parts = sorted(tmp_path.glob("w/listing/part-*"))
    before = {part: part.stat().st_mtime_ns for part in parts}
    assert len(parts) == 2
    time.sleep(0.01)
    ref = images_of(root, RuntimeSpec(workspace=str(tmp_path / "w")), rows_per_shard=3)
    assert names_of(rows_of(ref)) == [f"{i:02}.png" for i in range(12)]
    assert {part: part.stat().st_mtime_ns for part in parts} == before
    assert len(list(tmp_path.glob("w/listing/part-*"))) == 4
    assert len(list(tmp_path.glob("w/listing/new-*"))) == 1, (
        "of the killed one; `coft clean` does it"
    )


# --- digests --------------------------------------------------------------------------------


def test_content_and_splits_alone_are_the_digest(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "d", {f"{name}/1.png": encoded_image(ord(name)) for name in "abc"})
    base = images_of(root, memory)
    (root / "a" / "1.png").rename(root / "c" / "renamed.png")
    renamed = images_of(root, memory)
    (root / "b" / "copy.png").write_bytes(encoded_image(ord("b")))
    with_copy = images_of(root, memory)
    rows = [encoded_image(ord(name)) for name in "cab"]  # another form, and another order
    pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
    as_rows = images_of(tmp_path / "t.parquet", memory)
    same = [base, renamed, with_copy, as_rows, images_of(root, memory, rows_per_shard=2)]
    assert {ref.digest for ref in same} == {base.digest}
    assert len({ref.uri for ref in same}) == len(same)
    test = tree(tmp_path / "e", {"b.png": encoded_image(ord("b"))})
    (root / "a" / "new.png").write_bytes(encoded_image(4))
    others = [images_of(root, memory, test=str(test)), images_of(root, memory)]
    assert len({ref.digest for ref in (base, *others)}) == 3


def test_a_task_is_of_classes_and_labels(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "d", {"a/1.png": encoded_image(1), "b/2.png": encoded_image(2)})
    labels = tmp_path / "l.csv"
    labels.write_text("uri,label\na/1.png,a\n")
    base: dict[str, Any] = {"images": root, "runtime": memory}
    changes: list[dict[str, Any]] = [
        {},
        {"classes": "b,a"},
        {"classes": "a,b,c"},
        {"labels": "folders"},
        {"labels": str(labels)},
    ]
    made = [opened(**base, **change) for change in changes]
    labels.write_text("uri,label\na/1.png,b\n")
    made.append(opened(**base, labels=str(labels)))
    assert {images.digest for images, _ in made} == {made[0][0].digest}
    assert len({task.digest for _, task in made}) == len(made)
    labels.write_text("label,uri\na,a/1.png\nb,b/2.png\n")
    _, of_file = opened(**base, labels=str(labels))
    assert of_file.digest == made[3][1].digest, "the same labels, in a file"


def test_the_digest_does_not_depend_on_limits_that_only_stop(
    tmp_path: Path, memory: RuntimeSpec
) -> None:
    root = tree(tmp_path, {"1.png": encoded_image(1), "2.png": b""})
    first = images_of(root, memory, max_quarantined=0.5)
    assert images_of(root, memory, max_quarantined=0.9).digest == first.digest
    with pytest.raises(TooManyBadImages):
        images_of(root, memory, max_quarantined=0.4)


# --- when to stop ---------------------------------------------------------------------------


def test_too_many_bad_images_stop_with_the_reasons(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(
        tmp_path,
        {f"{i}.png": b"text" for i in range(3)} | {"9.png": encoded_image(9), "8.png": b""},
    )
    with pytest.raises(TooManyBadImages, match=r"4 of 5 \(3 x not-an-image, 1 x empty-file"):
        images_of(root, memory)
    assert images_of(root, memory, max_quarantined=0.8).num_quarantined == 4


def test_hopeless_input_stops_early(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {f"{i}.png": b"" for i in range(10)})
    with pytest.raises(TooManyBadImages, match="6 of 10"):
        images_of(root, memory, rows_per_shard=2)


def test_nothing_is_left(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "bad", {"1.png": b""})
    with pytest.raises(NoImages, match=r"none is left \(1 x empty-file"):
        images_of(root, memory, max_quarantined=1)
    pq.write_table(
        pa.table({"image": [encoded_image(1)], "split": ["test"]}), tmp_path / "t.parquet"
    )
    with pytest.raises(NoImages, match="all 1 are test images"):
        images_of(tmp_path / "t.parquet", memory)
    spec = PoolSpec(images=str(tmp_path / "t.parquet"))
    assert open_images.fn(spec, memory, for_training=False).num_test == 1


def test_a_failure_that_may_pass_is_tried_again_by_the_next_run(
    tmp_path: Path, memory: RuntimeSpec
) -> None:
    table = pa.table({"uri": ["1.png", "2.png", "3.png"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TooManyBadImages, match=r"3 of 3 \(3 x unreadable"):
        images_of(tmp_path / "t.parquet", memory)
    tree(tmp_path, {f"{i}.png": encoded_image(i) for i in (1, 2, 3)})
    assert images_of(tmp_path / "t.parquet", memory).num_pool == 3


@pytest.mark.parametrize(("error", "num_runs"), [(NoImages("none"), 1), (TimeoutError("slow"), 3)])
def test_only_failures_that_may_pass_are_tried_again(
    memory: RuntimeSpec,
    prefect_session: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    num_runs: int,
) -> None:
    runs: list[PoolSpec] = []

    def fail(spec: PoolSpec, *, for_training: bool) -> Understood:
        runs.append(spec)
        raise error

    @flow
    def one_pool() -> ImagesRef:
        task = open_images._task.with_options(retry_delay_seconds=0)
        return task(PoolSpec(images="d", classes="a,b"), memory)

    monkeypatch.setattr(pool_open, "take_understood", fail)
    with pytest.raises(type(error)):
        one_pool()
    assert len(runs) == num_runs


# --- in parallel ----------------------------------------------------------------------------


def test_workers_find_the_same_pool(tmp_path: Path, memory: RuntimeSpec, ray_session: None) -> None:
    root = tree(
        tmp_path / "d", {f"{i}.png": encoded_image(i) for i in range(9)} | {"bad.png": b"x"}
    )
    ref = images_of(root, RuntimeSpec(workspace=str(tmp_path / "w")), rows_per_shard=4)
    assert rows_of(ref) == rows_of(images_of(root, memory, rows_per_shard=4))
    assert [row["reason"] for row in bad_rows_of(ref)] == ["not-an-image"]
    with pytest.raises(NoImages, match="none is left"):
        images_of(tree(tmp_path / "e", {"1.png": b""}), memory, max_quarantined=1)
