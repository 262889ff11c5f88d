"""Files of a stage: named by what they are made from, written all at once, trusted by manifest.

A URI is a bare local path or anything that fsspec knows (`s3://`, `gs://`, `memory://`). A file
is at all times absent or complete: local files take their name in one rename after they reached
the disk, objects of a bucket appear in one put. The manifest of a folder is written last, so its
existence means that the stage is finished; readers go by it and ignore every other file.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pydantic import BaseModel, Field, JsonValue, ValidationError

from tasks.specs import Spec

SCHEMA_VERSION = 1  # raised by hand when the meaning of a file changes
MANIFEST = "manifest.json"
_FACTS = b"coft"  # key of our JSON in the Parquet schema metadata
_USER = re.compile(r"(://)[^/@\s]+@")
_SIGNATURE = re.compile(
    r"([?&][^=&\s]*(?:sig|signature|token|key|secret|password|credential)=)[^&\s]+", re.IGNORECASE
)
_ROW_GROUP = 8192  # rows; 16 MB of 512 float32 values


class ShardMismatch(ValueError):
    """A file or manifest that was not made from what the reader expects, or by other code."""


class Part(Spec):
    """One Parquet file of a stage, by its name relative to the manifest, and its row count."""

    name: str
    rows: int


class Manifest(Spec):
    """What a finished stage consists of and what it was made from."""

    kind: str
    digest: str
    schema_version: int
    code_version: str
    parts: tuple[Part, ...]
    rows: int
    seconds: float
    facts: dict[str, JsonValue] = Field(default_factory=dict)


def code_version() -> str:
    """Return the version of the installed package, or `unknown` in a bare checkout."""
    try:
        return metadata.version("coft")
    except metadata.PackageNotFoundError:
        return "unknown"


def fingerprint(*parts: object) -> str:
    """Digest values to 16 hex digits: equal values, equal digest, on every machine and run.

    Args:
        *parts: Specs, mappings, lists, texts, numbers, None, and any nesting of them.
    """
    text = json.dumps(parts, default=_plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return list(value)
    msg = f"a digest is made of specs, mappings, lists, texts and numbers; got {type(value)}"
    raise TypeError(msg)


def redact(text: str) -> str:
    """Hide passwords and signatures of every URI in a text that a person or a log will see."""
    return _SIGNATURE.sub(r"\1***", _USER.sub(r"\1***@", text))


def is_local(uri: str) -> bool:
    """Say whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a local URI; a name with `::` or `#` in it is taken as it stands."""
    return Path(uri.removeprefix("file://")).expanduser()


def absolute(uri: str) -> str:
    """Return a URI that means the same file in a worker with another working folder."""
    return uri if not is_local(uri) else os.path.abspath(local_path(uri))  # noqa: PTH100


def open_filesystem(uri: str) -> tuple[Any, str]:  # fsspec has no types
    """Return the fsspec file system of a bucket URI and the path inside it."""
    # Other machines write here too, so a listing from a minute ago is not the truth.
    return cast("tuple[Any, str]", url_to_fs(uri, use_listings_cache=False))


def join(uri: str, *names: str) -> str:
    """Append names to a folder URI."""
    base = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return base + "/".join(name.strip("/") for name in names) if names else uri


def exists(uri: str) -> bool:
    """Say whether a file or folder is there."""
    if is_local(uri):
        return local_path(uri).exists()
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.exists(path))


def names_in(folder: str) -> set[str]:
    """Return the names of the files in a folder, in one request; none if it is absent."""
    if is_local(folder):
        path = local_path(folder)
        return {child.name for child in path.iterdir()} if path.is_dir() else set()
    filesystem, inner = open_filesystem(folder)
    found = filesystem.ls(inner, detail=False) if filesystem.exists(inner) else ()
    return {name.rstrip("/").rsplit("/", 1)[-1] for name in found}


def content_hash(uri: str) -> str:
    """Return the sha256 of a file, read a piece at a time."""
    digest = hashlib.sha256()
    with open_read(uri) as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def remove(uri: str) -> None:
    """Delete a file or a folder with all that is in it; nothing happens when it is absent."""
    if is_local(uri):
        path = local_path(uri)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    elif exists(uri):
        filesystem, inner = open_filesystem(uri)
        filesystem.rm(inner, recursive=True)


@contextmanager
def open_read(uri: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, wherever it is."""
    if is_local(uri):
        with local_path(uri).open("rb") as file:
            yield file
    else:
        filesystem, path = open_filesystem(uri)
        with filesystem.open(path, "rb") as file:
            yield cast("BinaryIO", file)


@contextmanager
def open_write(uri: str) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when the block ends well, and never otherwise."""
    if is_local(uri):
        with _open_local(local_path(uri)) as local:
            yield local
    else:
        buffer = BytesIO()
        yield buffer
        filesystem, path = open_filesystem(uri)
        filesystem.pipe_file(path, buffer.getvalue())  # one put: all or nothing


@contextmanager
def _open_local(target: Path) -> Iterator[BinaryIO]:
    # Workers that race on one name write equal content, and either rename may win.
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only when the folder itself has reached the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(uri: str) -> bytes:
    """Return the content of a file."""
    with open_read(uri) as file:
        return file.read()


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file so that it is at all times either absent or complete."""
    with open_write(uri) as file:
        file.write(data)


def read_json(uri: str) -> Any:
    """Return the value of a JSON file; raises ShardMismatch when it is not JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        msg = f"{redact(uri)}: expected a JSON file, got something else; delete it and run again"
        raise ShardMismatch(msg) from error


def write_json(uri: str, value: object) -> None:
    """Write a value as JSON, atomically."""
    write_bytes(uri, json.dumps(value, indent=1, default=_plain, ensure_ascii=True).encode())


def write_table(uri: str, table: pa.Table, facts: Mapping[str, str] | None = None) -> None:
    """Write a table as zstd Parquet with `facts` in its metadata, atomically.

    Args:
        uri: Where; parent folders are made.
        table: The rows. Only texts get a dictionary: on vectors it costs size and time.
        facts: What the file is made from (digest, backbone, ...), for `read_table(expect=...)`.
    """
    header = {"schema_version": SCHEMA_VERSION, "code_version": code_version(), **(facts or {})}
    known = table.schema.metadata or {}
    table = table.replace_schema_metadata({**known, _FACTS: json.dumps(header).encode()})
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with open_write(uri) as file:
        pq.write_table(
            table, file, compression="zstd", use_dictionary=texts, row_group_size=_ROW_GROUP
        )


def read_table(
    uri: str, columns: Sequence[str] | None = None, *, expect: Mapping[str, str] | None = None
) -> pa.Table:
    """Return the rows of a file that `write_table` wrote.

    Args:
        uri: The file.
        columns: Names of the columns to read, all by default.
        expect: Facts that the file must carry with these values.

    Raises:
        ShardMismatch: if the schema version or an expected fact differs; names the field.
    """
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        _check_facts(uri, parquet.schema_arrow.metadata or {}, expect or {})
        return parquet.read(columns=None if columns is None else list(columns))


def _check_facts(uri: str, header: Mapping[bytes, bytes], expect: Mapping[str, str]) -> None:
    facts = json.loads(header.get(_FACTS, b"{}"))
    for name, wanted in {"schema_version": SCHEMA_VERSION, **expect}.items():
        if (found := facts.get(name)) != wanted:
            msg = (
                f"{redact(uri)}: expected {name} {wanted!r}, got {found!r}; "
                "delete the file's folder and run the command again"
            )
            raise ShardMismatch(msg)


def part_name(index: int, digest_of_inputs: str) -> str:
    """Name part `index` of a stage by its place and the digest of what it is made from."""
    return f"part-{index:05d}-{digest_of_inputs[:8]}.parquet"


def make_manifest(kind: str, digest: str, parts: Sequence[Part]) -> Manifest:
    """Describe a stage that this code finished; add `seconds` and `facts` with `model_copy`."""
    return Manifest(
        kind=kind,
        digest=digest,
        schema_version=SCHEMA_VERSION,
        code_version=code_version(),
        parts=tuple(parts),
        rows=sum(part.rows for part in parts),
        seconds=0.0,
    )


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Declare a stage finished. Call it last, when every part is in place."""
    write_bytes(join(folder, MANIFEST), manifest.model_dump_json(indent=1).encode())


def read_manifest(folder: str) -> Manifest | None:
    """Return the manifest of a finished stage, or None when the stage is not finished.

    Raises:
        ShardMismatch: if it cannot be read, or was written with another schema version.
    """
    uri = join(folder, MANIFEST)
    if not exists(uri):
        return None
    value = read_json(uri)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if found != SCHEMA_VERSION:
        msg = f"{redact(uri)}: expected schema_version {SCHEMA_VERSION}, got {found!r}; "
        raise ShardMismatch(msg + "delete the folder and run the command again")
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        fields = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        msg = f"{redact(uri)}: fields {fields} are wrong or missing; delete the folder, run again"
        raise ShardMismatch(msg) from error


def iter_tables(folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the parts of a finished stage in order, one in memory at a time.

    Raises:
        ShardMismatch: if the stage has no manifest, that is, if it did not finish.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        msg = f"{redact(folder)}: expected a finished stage, got no {MANIFEST}; run its command"
        raise ShardMismatch(msg)
    for part in manifest.parts:
        yield read_table(join(folder, part.name), columns)


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Give the path of a file or folder on this machine: itself, or a copy for the block's time."""
    if is_local(uri):
        yield local_path(uri)
        return
    filesystem, path = open_filesystem(uri)
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        target = Path(folder) / path.rstrip("/").rsplit("/", 1)[-1]
        kind: Literal["folder", "file"] = "folder" if filesystem.isdir(path) else "file"
        filesystem.get(path.rstrip("/"), str(target), recursive=kind == "folder")
        yield target


def count_rows(uri: str) -> int:
    """Return the rows of a Parquet file from its footer, without reading them."""
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.num_rows)
