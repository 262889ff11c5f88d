"""What of a workspace no finished run refers to, and how to remove it.

A run that ends writes down which stages it went through. What the manifests of these name stays,
and so do rounds, what people were asked, reports, simulations, the registry, what is known of
listed files, bad images, converted language models, and what language models answered.
All of the rest should stay as long as any of it is young: a run that is at work, or about to go
on, writes some of it and needs the others.
"""

import posixpath
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.specs import InputError
from tasks.storage.files import exists, reaching, remove
from tasks.storage.finished_runs import stages_of_begun_run, stages_of_finished_runs
from tasks.storage.layout import DESCRIPTION, QUARANTINE, RESUME, RUNS, Folder, check_workspace
from tasks.storage.manifest import MANIFEST, read_manifest
from tasks.storage.uris import absolute, is_local, join, local_path, open_filesystem, redact

STAGES = (
    Folder.POOL,
    Folder.TASKS,
    Folder.SENTENCES,
    Folder.LABELS,
    Folder.PEERS,
    Folder.MODELS,
    Folder.PREDICTIONS,
    Folder.MODALITIES,
    Folder.VISIONS,
    Folder.CAPTIONS,
    Folder.EVALUATIONS,
)  # each has a folder for each digest, which is finished or not

STORES = (Folder.EMBEDDINGS, Folder.MAPS)  # features of any images, for many runs


@dataclass(frozen=True)
class File:
    """A file of a workspace: its path inside, its size, and when it changed."""

    name: str
    num_bytes: int
    modified: float

    @property
    def folder(self) -> str:
        """Return the first folder of the workspace that it is in."""
        return self.name.partition("/")[0]


def find_unused(workspace: str) -> list[File]:
    """Return the files that no finished run refers to.

    Raises:
        InputError: there is no workspace, or one of another version.
    """
    workspace = absolute(workspace)
    with reaching(workspace):
        is_there = exists(workspace)
    if not is_there:
        raise InputError(f"{redact(workspace)}: expected a workspace, found nothing; check it.")
    check_workspace(workspace)
    files = list(_list_files(workspace))
    by_stage: dict[tuple[str, ...], list[File]] = defaultdict(list)
    for file in files:
        parts = file.name.split("/")
        by_stage[tuple(parts[:2]) if len(parts) > 2 else tuple(parts[:1])].append(file)  # noqa: PLR2004
    used = stages_of_finished_runs(workspace)
    unused = [
        file for stage, own in by_stage.items() for file in _unused(workspace, stage, own, used)
    ]
    return sorted(unused, key=lambda file: file.name)


def is_at_work(files: Sequence[File], *, hours: float) -> bool:
    """Return whether any of the files changed in the last hours."""
    return any(file.modified >= time.time() - 3600 * hours for file in files)


def remove_files(workspace: str, files: Sequence[File]) -> None:
    """Remove files of a workspace, and on a disk the folders that they leave empty."""
    workspace = absolute(workspace)
    for file in files:
        remove(join(workspace, file.name))
    if is_local(workspace):
        root = local_path(workspace)
        for name in sorted({posixpath.dirname(file.name) for file in files}, reverse=True):
            folder = root / name
            while folder != root and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent


def describe(files: Sequence[File]) -> list[str]:
    """Return how many files and bytes there are of each folder, in lines."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for file in files:
        sizes[file.folder].append(file.num_bytes)
    lines = [f"{name:<12} {_amount(own)}" for name, own in sorted(sizes.items())]
    return [*lines, f"{'in all':<12} {_amount([file.num_bytes for file in files])}"]


def _amount(sizes: Collection[int]) -> str:
    return f"{len(sizes):>8,} files {sum(sizes) / 2**20:>12,.1f} MB"


def _list_files(workspace: str) -> Iterator[File]:
    """Yield all files; of a bucket in one listing."""
    if is_local(workspace):
        root = local_path(workspace)
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                yield File(path.relative_to(root).as_posix(), status.st_size, status.st_mtime)
        return
    filesystem, inside = open_filesystem(workspace)
    for path, info in filesystem.find(inside, detail=True).items():
        name = path.removeprefix(inside.rstrip("/")).lstrip("/")
        yield File(name, int(info.get("size") or 0), _modified(info))


def _modified(info: Mapping[str, Any]) -> float:
    """Return when an object changed; of a driver that does not tell, just now."""
    found = next((info[name] for name in ("LastModified", "created", "updated") if name in info), 0)
    return float(found.timestamp()) if hasattr(found, "timestamp") else time.time()


def _unused(
    workspace: str, stage: tuple[str, ...], files: Sequence[File], used: set[str]
) -> Iterator[File]:
    """Yield the files of one folder that no finished run refers to.

    A model without a manifest is one that a person has put there.
    """
    leftovers = [file for file in files if _is_leftover(file.name)]
    yield from leftovers
    files = [file for file in files if file not in leftovers]
    if stage[0] in STORES:
        yield from _of_store(workspace, stage, files, used)
    elif stage[0] in STAGES and len(stage) > 1:
        home = "/".join(stage)
        names = {file.name.removeprefix(f"{home}/") for file in files}
        if home in used and MANIFEST in names:
            yield from _of_finished(join(workspace, home), home, files)
        elif MANIFEST in names or DESCRIPTION not in names:
            yield from files
    elif stage[0] == Folder.BEGUN:
        yield from (
            file for file in files if not stages_of_begun_run(join(workspace, file.name)) <= used
        )


def _is_leftover(name: str) -> bool:
    """Return whether a file is what an interrupted command leaves: half a file, a list of work."""
    base = posixpath.basename(name)
    return (base.startswith(".") and base.endswith(".partial")) or (
        name.startswith(f"{Folder.LISTING}/new-")
    )


def _of_finished(folder: str, stage: str, files: Sequence[File]) -> Iterator[File]:
    """Yield the checkpoint of a finished training, and parts that its manifest does not name."""
    kept = _parts(folder) | {f"{QUARANTINE}/{name}" for name in _parts(join(folder, QUARANTINE))}
    for file in files:
        name = file.name.removeprefix(f"{stage}/")
        is_part = posixpath.basename(name).startswith("part-")
        if name == RESUME or (is_part and name not in kept):
            yield file


def _of_store(
    workspace: str, stage: tuple[str, ...], files: Sequence[File], used: set[str]
) -> Iterator[File]:
    """Yield what is said of the features of unfinished runs, and the features that no run has."""
    home = "/".join(stage) + "/"
    runs = {run.removeprefix(home) for run in used if run.startswith(f"{home}{RUNS}/")}
    named = {name for run in runs for name in _parts(join(workspace, home, run))}
    for file in files:
        name = file.name.removeprefix(home)
        is_part = "/" not in name and name.startswith("part-")
        of_no_run = name.startswith(f"{RUNS}/") and "/".join(name.split("/")[:2]) not in runs
        if (is_part and name not in named) or of_no_run:
            yield file


def _parts(folder: str) -> set[str]:
    manifest = read_manifest(folder)
    return set() if manifest is None else {part.name for part in manifest.parts}
