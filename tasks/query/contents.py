"""The stages of a workspace, and those that the views show: one set of images and what is of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.pool.shards import Shard, shards_of
from tasks.specs import InputError
from tasks.storage.digests import ShardMismatch, classes_digest
from tasks.storage.files import exists, names_in, open_read, reaching
from tasks.storage.layout import QUARANTINE, RUNS, Folder, check_workspace
from tasks.storage.manifest import MANIFEST, Manifest, read_manifest
from tasks.storage.tables import read_facts, read_table
from tasks.storage.uris import is_local, join, local_path, open_filesystem, redact

Kind = Literal["pool", "tasks", "embeddings", "labels", "predictions"]


@dataclass(frozen=True)
class Stage:
    """A finished stage, and the time at which it was finished, in seconds since 1970.

    Attributes:
        kind: What it is.
        folder: Of its manifest.
        home: Of its parts; the store of embeddings has those of several sets of images.
        manifest: What it consists of.
        finished: When.
    """

    kind: Kind
    folder: str
    home: str
    manifest: Manifest
    finished: float

    @property
    def digest(self) -> str:
        """The digest of the stage, of embeddings that of their tower."""
        return self.home.rpartition("/")[2] if self.kind == "embeddings" else self.manifest.digest

    @property
    def files(self) -> list[str]:
        """The URIs of the parts, in order."""
        return [join(self.home, part.name) for part in self.manifest.parts]

    @property
    def quarantine_files(self) -> list[str]:
        """The URIs of the parts of the quarantine."""
        folder = join(self.folder, QUARANTINE)
        manifest = read_manifest(folder)
        return [join(folder, part.name) for part in manifest.parts] if manifest else []

    def is_of(self, images: "Stage") -> bool:
        """Return whether this was made of some images, wherever they lie."""
        return self.manifest.facts.get("images") == images.manifest.facts.get("content")


@dataclass(frozen=True)
class Chosen:
    """The stages that the views show."""

    pool: Stage
    task: Stage | None
    embeddings: Stage | None
    labels: dict[str, Stage]
    predictions: Stage | None

    @property
    def dim(self) -> int | None:
        """The length of the embeddings' vectors; None without embeddings."""
        return vector_size(self.embeddings.files[0]) if self.embeddings else None

    def shards(self, *stages: Stage) -> list[Shard]:
        """Return the images range by range, each with the parts of some stages about it."""
        return shards_of(self.pool.files, [stage.files for stage in stages])


def choose(workspace: str, *, pool: str | None = None, embeddings: str | None = None) -> Chosen:
    """Return the newest images, or those named, with the newest stages that depend on them.

    Labels are the newest of each source, predictions the newest, all of the newest classes that
    these images were sorted into. A backbone's embeddings are preferred to those of the peers that
    were trained from it: training moves the images of a class together, and images that only share
    a class would count as duplicates.

    Args:
        workspace: Folder or URI.
        pool: Digest of images, or of a task (classes and labels of images), or its beginning.
        embeddings: Digest of the tower of some embeddings of these images, or its beginning.

    Raises:
        InputError: the workspace is absent or has no images, or no stage has the digest.
    """
    with reaching(workspace):
        is_there = exists(workspace)
    if not is_there:
        raise InputError(
            f"{redact(workspace)}: expected a workspace, found nothing; "
            "name the folder that `coft adapt` or `coft embed` wrote, with --workspace"
        )
    check_workspace(workspace)
    pools, tasks = _finished(workspace, "pool"), _finished(workspace, "tasks")
    if not pools:
        raise InputError(
            f"{redact(workspace)}: the workspace holds no images yet; "
            "run `coft adapt` or `coft embed` with this --workspace first"
        )
    chosen, task = _pick_images(pools, tasks, pool)
    labels = [stage for stage in _finished(workspace, "labels") if _belongs(stage, chosen, task)]
    predictions = _finished(workspace, "predictions")
    predictions = [stage for stage in predictions if _belongs(stage, chosen, task)]
    seen = [stage for stage in _embeddings(workspace) if stage.is_of(chosen)]
    return Chosen(
        pool=chosen,
        task=task,
        embeddings=_pick_embeddings(seen, embeddings),
        labels={_source(stage): stage for stage in labels if stage.manifest.rows},
        predictions=predictions[-1] if predictions else None,
    )


def _pick_images(
    pools: Sequence[Stage], tasks: Sequence[Stage], digest: str | None
) -> tuple[Stage, Stage | None]:
    """Return the images, and the classes that they were sorted into last; None without."""
    named = [task for task in tasks if digest and task.digest.startswith(digest)]
    named = [task for task in named if any(task.is_of(pool) for pool in pools)]
    if len(named) == 1 and not any(pool.digest.startswith(str(digest)) for pool in pools):
        return [pool for pool in pools if named[0].is_of(pool)][-1], named[0]
    chosen = _pick(pools, digest, "pool")
    own = [task for task in tasks if task.is_of(chosen)]
    return chosen, own[-1] if own else None


def _belongs(stage: Stage, images: Stage, task: Stage | None) -> bool:
    """Return whether labels or predictions are of some images and of the classes of a task."""
    if not stage.is_of(images):
        return False
    classes = None if task is None else task.manifest.facts.get("classes")
    return not isinstance(classes, list) or stage.manifest.facts.get("classes") == classes_digest(
        [str(name) for name in classes]
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
    folders = [join(base, name) for name in sorted(names_in(base))]
    return _stages(kind, [(folder, folder) for folder in folders])


def _embeddings(workspace: str) -> list[Stage]:
    """Return what runs have embedded, oldest first."""
    base = join(workspace, Folder.EMBEDDINGS)
    homes = [join(base, name) for name in sorted(names_in(base))]
    runs = [(home, join(home, RUNS)) for home in homes]
    folders = [(join(run, name), home) for home, run in runs for name in sorted(names_in(run))]
    return _stages("embeddings", folders)


def _stages(kind: Kind, folders: Sequence[tuple[str, str]]) -> list[Stage]:
    stages = []
    for folder, home in folders:
        try:
            manifest = read_manifest(folder)
        except ShardMismatch:
            continue
        if manifest is not None:
            stages.append(Stage(kind, folder, home, manifest, _modified(folder)))
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
    """Return the newest embeddings of a backbone as it is, else the newest."""
    stages = [stage for stage in stages if stage.manifest.parts]
    if digest is not None or not stages:
        return _pick(stages, digest, "embeddings") if digest else None
    untrained = [stage for stage in stages if _is_untrained(stage)]
    return (untrained or stages)[-1]


def _is_untrained(stage: Stage) -> bool:
    """Return whether some embeddings are of a backbone that nothing was learned on."""
    facts = read_facts(stage.files[0])
    return "weights_sha256" in facts and not facts.get("learned")


def _source(stage: Stage) -> str:
    """Return who gave the labels of a stage with rows."""
    parts = zip(stage.manifest.parts, stage.files, strict=True)
    uri = next(uri for part, uri in parts if part.rows)
    return str(read_table(uri, ["source"])["source"][0].as_py())
