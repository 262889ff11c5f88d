"""What a workspace holds, and which of it the views show: one pool and what was made from it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.specs import InputError
from tasks.storage.digests import ShardMismatch
from tasks.storage.files import exists, names_in, open_read
from tasks.storage.layout import QUARANTINE, check_workspace
from tasks.storage.manifest import MANIFEST, Manifest, read_manifest
from tasks.storage.tables import read_table
from tasks.storage.uris import is_local, join, local_path, open_filesystem, redact

Kind = Literal["pool", "embeddings", "labels", "predictions"]
KINDS: tuple[Kind, ...] = ("pool", "embeddings", "labels", "predictions")


@dataclass(frozen=True)
class Stage:
    """A finished stage, and when it was finished."""

    kind: Kind
    folder: str
    manifest: Manifest
    finished: float

    @property
    def digest(self) -> str:
        """Return the digest of everything that the stage was made from."""
        return self.manifest.digest

    @property
    def files(self) -> list[str]:
        """Return the URIs of the parts, in order."""
        return [join(self.folder, part.name) for part in self.manifest.parts]

    @property
    def quarantine_files(self) -> list[str]:
        """Return the URIs of the parts of its quarantine; a part without bad files has none."""
        folder = join(self.folder, QUARANTINE)
        if self.kind == "pool":
            manifest = read_manifest(folder)
            names = [part.name for part in manifest.parts] if manifest else []
        else:
            there = names_in(folder)
            names = [part.name for part in self.manifest.parts if part.name in there]
        return [join(folder, name) for name in names]


@dataclass(frozen=True)
class Chosen:
    """The stages that the views show."""

    pool: Stage
    embeddings: Stage | None
    labels: dict[str, Stage]
    predictions: Stage | None

    @property
    def dim(self) -> int | None:
        """Return the length of the embeddings' vectors; None without embeddings."""
        return vector_size(self.embeddings.files[0]) if self.embeddings else None


def choose(workspace: str, *, pool: str | None = None, embeddings: str | None = None) -> Chosen:
    """Return the newest pool, or the one named, and the newest of what was made from it.

    Of each source of labels the newest is taken. A backbone's embeddings are preferred to those of
    the peers that were trained from it: a peer draws the images of a class together, and images
    that only share a class would count as duplicates.

    Args:
        workspace: Folder or URI.
        pool: Digest of a pool, or how it begins.
        embeddings: Digest of embeddings of that pool, or how it begins.

    Raises:
        InputError: the workspace is absent or has no pool, or no stage has the digest.
    """
    if not exists(workspace):
        raise InputError(
            f"{redact(workspace)}: expected a workspace, found nothing; "
            "name the folder that `coft adapt` or `coft embed` wrote, with --workspace"
        )
    check_workspace(workspace)
    pools = _finished(workspace, "pool")
    if not pools:
        raise InputError(
            f"{redact(workspace)}: the workspace holds no images yet; "
            "run `coft adapt` or `coft embed` with this --workspace first"
        )
    chosen = _pick(pools, pool, "pool")
    ids: dict[int, set[str]] = {}
    made = {
        kind: [stage for stage in _finished(workspace, kind) if _is_of(stage, chosen, ids)]
        for kind in KINDS[1:]
    }
    return Chosen(
        pool=chosen,
        embeddings=_pick_embeddings(made["embeddings"], embeddings),
        labels={_source(stage): stage for stage in made["labels"] if stage.manifest.rows},
        predictions=made["predictions"][-1] if made["predictions"] else None,
    )


def vector_size(uri: str) -> int:
    """Return the length of the vectors of one part of embeddings.

    Raises:
        InputError: the file has no column `embedding` of fixed-size lists.
    """
    with open_read(uri) as file:
        schema = pq.read_schema(file)
    index = schema.get_field_index("embedding")
    kind = schema.field(index).type if index >= 0 else None
    if kind is None or not pa.types.is_fixed_size_list(kind):
        raise InputError(f"{redact(uri)}: expected a column embedding, got {schema.names}")
    return int(kind.list_size)


def _finished(workspace: str, kind: Kind) -> list[Stage]:
    """Return the finished stages of a kind, oldest first; those of other code are left out."""
    base = join(workspace, kind)
    found = []
    for name in sorted(names_in(base)):
        folder = join(base, name)
        try:
            manifest = read_manifest(folder)
        except ShardMismatch:
            continue
        if manifest is not None:
            found.append(Stage(kind, folder, manifest, _modified(folder)))
    return sorted(found, key=lambda stage: stage.finished)


def _modified(folder: str) -> float:
    uri = join(folder, MANIFEST)
    if is_local(uri):
        return local_path(uri).stat().st_mtime
    filesystem, path = open_filesystem(uri)
    return float(filesystem.modified(path).timestamp())


def _pick(stages: Sequence[Stage], digest: str | None, what: str) -> Stage:
    """Return the newest stage, or the only one whose digest begins as given."""
    if digest is None:
        return stages[-1]
    matches = [stage for stage in stages if stage.digest.startswith(digest)]
    if len(matches) != 1:
        known = ", ".join(stage.digest for stage in reversed(stages)) or "none"
        how_many = "several begin" if matches else "none begins"
        raise InputError(f"--{what} {digest}: {how_many} like this; there are: {known}")
    return matches[0]


def _pick_embeddings(stages: Sequence[Stage], digest: str | None) -> Stage | None:
    """Return the first embeddings of the backbone that was used last: those of its own weights."""
    stages = [stage for stage in stages if stage.manifest.parts]
    if digest is not None or not stages:
        return _pick(stages, digest, "embeddings") if digest else None
    newest = _backbone(stages[-1])
    return next(stage for stage in stages if _backbone(stage) == newest)


def _backbone(stage: Stage) -> list[str | None]:
    """Return what tells one backbone's embeddings from another's."""
    with open_read(stage.files[0]) as file:
        header = pq.read_schema(file).metadata or {}
    facts = json.loads(header.get(b"coft", b"{}"))
    return [facts.get(name) for name in ("backbone", "weights_sha256", "preprocess_hash")]


def _is_of(stage: Stage, pool: Stage, ids: dict[int, set[str]]) -> bool:
    """Say whether a stage was made from a pool: part by part, with its images and class names.

    Stages of two pools that agree in all of these hold the same.
    """
    if (stated := stage.manifest.facts.get("pool")) is not None:
        return stated == pool.digest
    if len(stage.manifest.parts) != len(pool.manifest.parts):
        return False
    for number, table in _first_rows(stage, ["image_id"]):
        if number not in ids:
            images = read_table(pool.files[number], ["image_id"])
            ids[number] = set(images["image_id"].to_pylist())
        if not ids[number].issuperset(table["image_id"].to_pylist()):
            return False
    return stage.kind != "labels" or _has_names(stage, pool)


def _has_names(stage: Stage, pool: Stage) -> bool:
    classes = pool.manifest.facts.get("classes")
    known = set(classes) if isinstance(classes, list) else set()
    return all(
        known.issuperset(table["label"].unique().to_pylist())
        for _, table in _first_rows(stage, ["label"])
    )


def _source(stage: Stage) -> str:
    _, table = next(_first_rows(stage, ["source"]))
    return str(table["source"][0].as_py())


def _first_rows(stage: Stage, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the first part that has rows, with its number, if there is one."""
    parts = enumerate(zip(stage.manifest.parts, stage.files, strict=True))
    number, uri = next(((number, uri) for number, (part, uri) in parts if part.rows), (-1, ""))
    if uri:
        yield number, read_table(uri, columns)
