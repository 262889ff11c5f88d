"""Files are absent or complete, named by content, and refused when they do not fit."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.specs import Phase1Spec, PoolSpec
from tasks.storage.digests import SCHEMA_VERSION, ShardMismatch, fingerprint
from tasks.storage.files import (
    content_hash,
    exists,
    local_copy,
    names_in,
    open_write,
    read_bytes,
    read_json,
    remove,
    write_bytes,
    write_json,
)
from tasks.storage.manifest import (
    MANIFEST,
    Manifest,
    Part,
    iter_tables,
    make_manifest,
    part_name,
    read_manifest,
    write_manifest,
)
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join, redact

ROOT = Path(__file__).parents[3]
TABLE = pa.table({"image_id": [f"{i:04}" for i in range(100)], "label": ["ü'\"\n"] * 100})


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a'b* ü#1") if request.param == "local" else f"memory://{uuid4().hex}/b"


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def finish(folder: str, tables: list[pa.Table]) -> Manifest:
    parts = []
    for index, table in enumerate(tables):
        name = part_name(index, "0123456789abcdef")
        write_table(join(folder, name), table)
        parts.append(Part(name=name, rows=table.num_rows))
    manifest = make_manifest("test", "0123456789abcdef", parts)
    write_manifest(folder, manifest)
    return manifest


def test_fingerprint_is_the_digest_of_canonical_json() -> None:
    text = '["a",1,null,[true,2.5],{"x":1,"y":{"images":"d"}}]'
    given = ("a", 1, None, (True, 2.5), {"y": {"images": "d"}, "x": 1})
    assert fingerprint(*given) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_fingerprint_is_equal_in_other_processes() -> None:
    code = (
        "from tasks.storage.digests import fingerprint; from tasks.specs import PoolSpec; "
        "print(fingerprint(PoolSpec(images='d'), {'b': 1, 'a': 'ü'}, ['x']))"
    )
    here = fingerprint(PoolSpec(images="d"), {"a": "ü", "b": 1}, ("x",))
    for seed in ("1", "2"):
        done = run_python(code, PYTHONHASHSEED=seed)
        assert done.stdout.strip() == here, done.stderr


@pytest.mark.parametrize(
    "spec", [PoolSpec(images="d"), Phase1Spec()], ids=lambda s: type(s).__name__
)
def test_fingerprint_changes_with_every_field(spec: PoolSpec | Phase1Spec) -> None:
    seen = {fingerprint(spec)}
    changed = list(changed_everywhere(spec.model_dump()))
    seen.update(fingerprint(values) for values in changed)
    assert len(seen) == 1 + len(changed)
    assert len(changed) >= len(type(spec).model_fields)


def changed_everywhere(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the values with each single one changed, in nested specs too."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ({**values, name: inner} for inner in changed_everywhere(value))
        elif type(value) is int:
            yield {**values, name: value + 1}
        else:
            yield {**values, name: value + 0.125 if isinstance(value, float) else f"{value}x"}


def test_fingerprint_keeps_parts_apart() -> None:
    assert fingerprint("a", "b") != fingerprint("ab")
    assert fingerprint(["a"], "b") != fingerprint("a", ["b"])


def test_tables_survive_the_round_trip(folder: str) -> None:
    uri = join(folder, "x", "part.parquet")
    write_table(uri, TABLE, {"digest": "abc"})
    assert read_table(uri, expect={"digest": "abc"}).equals(TABLE)
    assert read_table(uri, ["label"]).column_names == ["label"]
    assert names_in(join(folder, "x")) == {"part.parquet"}


def test_vectors_are_stored_without_a_dictionary(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0] * 50, pa.float32()), 2)
    write_table(str(tmp_path / "v.parquet"), pa.table({"embedding": vectors}))
    column = pq.ParquetFile(tmp_path / "v.parquet").metadata.row_group(0).column(0)
    assert not column.has_dictionary_page
    assert column.compression == "ZSTD"
    assert read_table(str(tmp_path / "v.parquet")).schema.field(0).type.list_size == 2


def test_json_and_bytes_survive_the_round_trip(folder: str) -> None:
    write_json(join(folder, "a.json"), {"ü": [1, None, PoolSpec(images="d")]})
    assert read_json(join(folder, "a.json"))["ü"][2]["images"] == "d"
    write_bytes(join(folder, "b"), b"\0\xff")
    assert read_bytes(join(folder, "b")) == b"\0\xff"
    assert content_hash(join(folder, "b")) == hashlib.sha256(b"\0\xff").hexdigest()
    remove(folder)
    assert not exists(folder)
    remove(folder)


def test_a_process_that_dies_while_writing_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; from tasks.storage.files import open_write\n"
        "with open_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)"
    )
    target = tmp_path / "part.parquet"
    assert run_python(code, str(target)).returncode == 9
    assert not target.exists()
    write_table(str(target), TABLE)
    assert read_table(str(target)).num_rows == 100


def test_a_process_that_dies_while_replacing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    write_bytes(str(target), b"old")
    code = (
        "import os, sys; from tasks.storage.files import open_write\n"
        "with open_write(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os._exit(9)"
    )
    run_python(code, str(target))
    assert target.read_bytes() == b"old"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import resource, sys, pyarrow as pa; from tasks.storage.tables import write_table\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_table(sys.argv[1], pa.table({'x': [str(i * 7919 % 65537) for i in range(50000)]}))"
    )
    done = run_python(code, str(tmp_path / "part.parquet"))
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_block_writes_no_object() -> None:
    uri = f"memory://{uuid4().hex}/x"

    def fail() -> None:
        with open_write(uri) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not exists(uri)


def test_eight_writers_leave_one_correct_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "x" / "part.parquet")
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda _: write_table(uri, TABLE), range(32)))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["part.parquet"]
    assert read_table(uri).equals(TABLE)


def test_a_mismatch_names_the_field(folder: str) -> None:
    uri = join(folder, "part.parquet")
    write_table(uri, TABLE, {"digest": "abc"})
    with pytest.raises(ShardMismatch, match="expected digest 'xyz', got 'abc'"):
        read_table(uri, expect={"digest": "xyz"})


def test_a_table_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "part.parquet")
    header = json.dumps({"schema_version": SCHEMA_VERSION + 1})
    pq.write_table(TABLE.replace_schema_metadata({"coft": header}), uri)
    with pytest.raises(ShardMismatch, match="schema_version"):
        read_table(uri)


def test_parts_come_in_order_and_only_those_of_the_manifest(folder: str) -> None:
    finish(folder, [TABLE.slice(0, 60), TABLE.slice(60)])
    write_table(join(folder, "part-00009-stranger.parquet"), TABLE)
    assert pa.concat_tables(iter_tables(folder)).equals(TABLE)
    assert [table.num_rows for table in iter_tables(folder, ["label"])] == [60, 40]


def test_an_unfinished_stage_is_refused(folder: str) -> None:
    assert read_manifest(folder) is None
    with pytest.raises(ShardMismatch, match="finished stage"):
        next(iter_tables(folder))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{", "JSON"),
        (b"[]", "schema_version"),
        (b'{"schema_version": 999}', "schema_version"),
        (b'{"schema_version": %d, "kind": "x"}' % SCHEMA_VERSION, "digest"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: str, content: bytes, word: str) -> None:
    write_bytes(join(folder, MANIFEST), content)
    with pytest.raises(ShardMismatch, match=word):
        read_manifest(folder)


@pytest.mark.parametrize(
    "name", ["../x.parquet", "/etc/x.parquet", "a/../../x", "s3://bucket/x", "..\\x", "", "a//b"]
)
def test_a_manifest_names_no_file_outside_of_its_folder(folder: str, name: str) -> None:
    manifest = finish(folder, [TABLE]).model_dump(mode="json")
    manifest["parts"][0]["name"] = name
    write_bytes(join(folder, MANIFEST), json.dumps(manifest).encode())
    with pytest.raises(ShardMismatch, match="fields parts are wrong"):
        read_manifest(folder)


def test_the_manifest_survives_the_round_trip(folder: str) -> None:
    assert read_manifest(folder) is None
    manifest = finish(folder, [TABLE])
    assert read_manifest(folder) == manifest
    assert manifest.rows == 100


def test_local_copy_gives_files_and_folders(folder: str) -> None:
    write_bytes(join(folder, "m", "a.json"), b"1")
    with local_copy(join(folder, "m")) as path:
        assert (path / "a.json").read_bytes() == b"1"
    with local_copy(join(folder, "m", "a.json")) as path:
        assert path.read_bytes() == b"1"


@pytest.mark.parametrize(
    ("uri", "names", "joined"),
    [
        ("/a/", ("b", "c"), "/a/b/c"),
        ("/", ("b",), "/b"),
        ("s3://bucket", ("b",), "s3://bucket/b"),
        ("memory://", ("b",), "memory://b"),
        ("a", (), "a"),
    ],
)
def test_join(uri: str, names: tuple[str, ...], joined: str) -> None:
    assert join(uri, *names) == joined


def test_passwords_are_redacted() -> None:
    text = "cannot open s3://KEY:SECRET@bucket/x or https://h/y?X-Amz-Signature=abc&part=1"
    hidden = redact(text)
    assert "SECRET" not in hidden
    assert "abc" not in hidden
    assert "bucket/x" in hidden
    assert "part=1" in hidden


def test_what_is_no_file_is_written_into_and_stays(tmp_path: Path) -> None:
    """A pipe or a device, such as /dev/stdout, is not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_bytes(str(pipe), b"all of it")
        assert os.read(reader, 100) == b"all of it"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert read_bytes(str(pipe)) == b"", "nobody writes to it, and nobody is waited for"
