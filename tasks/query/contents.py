"""The stages of a workspace, and those that the views show: one pool and what depends on it."""

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
    """A finished stage, and the time at which it was finished, in seconds since 1970."""

    kind: Kind
    folder: str
    manifest: Manifest
    finished: float

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def files(self) -> list[str]:
        """The URIs of the parts, in order."""
        return [join(self.folder, part.name) for part in self.manifest.parts]

    @property
    def quarantine_files(self) -> list[str]:
        """The URIs of the parts of the quarantine; a part without bad files has none."""
        folder = join(self.folder, QUARANTINE)
        if self.kind == "pool":
            manifest = read_manifest(folder)
            names = [part.name for part in manifest.parts] if manifest else []
        else:
            existing = names_in(folder)
            names = [part.name for part in self.manifest.parts if part.name in existing]
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
        """The length of the embeddings' vectors; None without embeddings."""
        return vector_size(self.embeddings.files[0]) if self.embeddings else None


def choose(workspace: str, *, pool: str | None = None, embeddings: str | None = None) -> Chosen:
    """Return the newest pool, or the one named, with the newest stages that depend on it.

    Labels are the newest of each source. A backbone's embeddings are preferred to those of the
    peers that were trained from it: training moves the images of a class together, and images that
    only share a class would count as duplicates.

    Args:
        workspace: Folder or URI.
        pool: Digest of a pool, or its first characters.
        embeddings: Digest of embeddings of that pool, or its first characters.

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
    stages = {
        kind: [stage for stage in _finished(workspace, kind) if _belongs_to(stage, chosen, ids)]
        for kind in KINDS[1:]
    }
    return Chosen(
        pool=chosen,
        embeddings=_pick_embeddings(stages["embeddings"], embeddings),
        labels={_source(stage): stage for stage in stages["labels"] if stage.manifest.rows},
        predictions=stages["predictions"][-1] if stages["predictions"] else None,
    )


def vector_size(uri: str) -> int:
    """Return the length of the vectors in one part of embeddings.

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
    """Return the finished stages of a kind, oldest first, of this schema version."""
    base = join(workspace, kind)
    stages = []
    for name in sorted(names_in(base)):
        folder = join(base, name)
        try:
            manifest = read_manifest(folder)
        except ShardMismatch:
            continue
        if manifest is not None:
            stages.append(Stage(kind, folder, manifest, _modified(folder)))
    return sorted(stages, key=lambda stage: stage.finished)


def _modified(folder: str) -> float:
    uri = join(folder, MANIFEST)
    if is_local(uri):
        return local_path(uri).stat().st_mtime
    filesystem, path = open_filesystem(uri)
    return float(filesystem.modified(path).timestamp())


def _pick(stages: Sequence[Stage], digest: str | None, option: str) -> Stage:
    """Return the newest stage, or the only one whose digest starts with `digest`."""
    if digest is None:
        return stages[-1]
    matches = [stage for stage in stages if stage.digest.startswith(digest)]
    if len(matches) != 1:
        digests = ", ".join(stage.digest for stage in reversed(stages)) or "none"
        how_many = "several begin" if matches else "none begins"
        raise InputError(f"--{option} {digest}: {how_many} like this; there are: {digests}")
    return matches[0]


def _pick_embeddings(stages: Sequence[Stage], digest: str | None) -> Stage | None:
    """Return the first embeddings of the newest backbone: those of its own weights."""
    stages = [stage for stage in stages if stage.manifest.parts]
    if digest is not None or not stages:
        return _pick(stages, digest, "embeddings") if digest else None
    newest = _backbone(stages[-1])
    return next(stage for stage in stages if _backbone(stage) == newest)


def _backbone(stage: Stage) -> list[str | None]:
    """Return the facts that identify the backbone of some embeddings."""
    with open_read(stage.files[0]) as file:
        header = pq.read_schema(file).metadata or {}
    facts = json.loads(header.get(b"coft", b"{}"))
    return [facts.get(name) for name in ("backbone", "weights_sha256", "preprocess_hash")]


def _belongs_to(stage: Stage, pool: Stage, ids: dict[int, set[str]]) -> bool:
    """Return whether a stage depends on a pool.

    A manifest that does not name its pool is compared by its number of parts, the images of its
    first part, and class names.

    Args:
        stage: Embeddings, labels or predictions.
        pool: The pool.
        ids: Image ids of the pool's parts by number; filled as they are read.
    """
    if (pool_digest := stage.manifest.facts.get("pool")) is not None:
        return pool_digest == pool.digest
    if len(stage.manifest.parts) != len(pool.manifest.parts):
        return False
    for number, table in _first_rows(stage, ["image_id"]):
        if number not in ids:
            images = read_table(pool.files[number], ["image_id"])
            ids[number] = set(images["image_id"].to_pylist())
        if not ids[number].issuperset(table["image_id"].to_pylist()):
            return False
    return stage.kind != "labels" or _has_classes_of(stage, pool)


def _has_classes_of(stage: Stage, pool: Stage) -> bool:
    classes = pool.manifest.facts.get("classes")
    names = set(classes) if isinstance(classes, list) else set()
    return all(
        names.issuperset(table["label"].unique().to_pylist())
        for _, table in _first_rows(stage, ["label"])
    )


def _source(stage: Stage) -> str:
    _, table = next(_first_rows(stage, ["source"]))
    return str(table["source"][0].as_py())


def _first_rows(stage: Stage, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the number and the table of the first part that has rows; nothing without one."""
    parts = enumerate(zip(stage.manifest.parts, stage.files, strict=True))
    number, uri = next(((number, uri) for number, (part, uri) in parts if part.rows), (-1, ""))
    if uri:
        yield number, read_table(uri, columns)
