"""The manifest of a stage lists its parts and is written last.

A stage is finished when its manifest exists; readers ignore all files that it does not list.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pydantic import Field, JsonValue, ValidationError, field_validator

from tasks.specs import Spec
from tasks.storage.digests import SCHEMA_VERSION, ShardMismatch, code_version
from tasks.storage.files import exists, read_json, write_bytes
from tasks.storage.tables import read_table
from tasks.storage.uris import join, redact

MANIFEST = "manifest.json"


class Part(Spec):
    """A Parquet file of a stage: its name relative to the manifest, and its number of rows."""

    name: str
    rows: int

    @field_validator("name")
    @classmethod
    def _inside(cls, name: str) -> str:
        """Refuse a name that leads out of the folder of the manifest."""
        if "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ValueError("a part lies in the folder of its manifest")
        return name


class Manifest(Spec):
    """The parts of a finished stage, the digest of its inputs, and facts about it."""

    kind: str
    digest: str
    schema_version: int
    code_version: str
    parts: tuple[Part, ...]
    rows: int
    seconds: float
    facts: dict[str, JsonValue] = Field(default_factory=dict)


def part_name(index: int, digest_of_inputs: str) -> str:
    """Return the name of part `index` of a stage."""
    return f"part-{index:05d}-{digest_of_inputs[:8]}.parquet"


def make_manifest(kind: str, digest: str, parts: Sequence[Part]) -> Manifest:
    """Return a manifest of this version of the code, without `seconds` and `facts`."""
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
    """Write the manifest, which marks a stage as finished; call it after all parts are written."""
    write_bytes(join(folder, MANIFEST), manifest.model_dump_json(indent=1).encode())


def read_manifest(folder: str) -> Manifest | None:
    """Return the manifest of a stage, or None if the stage is not finished.

    Raises:
        ShardMismatch: the manifest cannot be read, or has another schema version.
    """
    uri = join(folder, MANIFEST)
    if not exists(uri):
        return None
    value = read_json(uri)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        msg = f"{redact(uri)}: expected schema_version {SCHEMA_VERSION}, got {version!r}; "
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
        ShardMismatch: the stage is not finished.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        msg = f"{redact(folder)}: expected a finished stage, got no {MANIFEST}; run its command"
        raise ShardMismatch(msg)
    for part in manifest.parts:
        yield read_table(join(folder, part.name), columns)
