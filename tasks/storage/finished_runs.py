"""Which stages the runs of a workspace went through: those that ended, and others so far."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from tasks.on_demand import OnDemand
from tasks.refs import EmbeddingsRef, Ref
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, names_in, read_json, write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.manifest import MANIFEST
from tasks.storage.uris import absolute, join

if TYPE_CHECKING:
    from prefect import context
else:  # only who runs a flow needs it; workers import the modules of steps too
    context = OnDemand("prefect.context")

_passed: dict[UUID, set[str]] = defaultdict(set)  # folders, by the flow run that went through them
_noted: dict[UUID, "_Notes"] = {}  # by the flow run that they are of


@dataclass
class _Notes:
    """The folders of each step of a run so far, and the file in which they are noted."""

    workspace: str
    file: str
    steps: dict[str, list[str]]


def pass_through(step: str, value: Any) -> None:
    """Remember the stages to which the result of a step refers, for the run that is on."""
    run = _run_id()
    if run is None:
        return
    folders = set(_folders(value))
    _passed[run] |= folders
    if folders and (notes := _noted.get(run)) is not None:
        notes.steps[step] = sorted(_inside(notes.workspace, folders))
        write_json(notes.file, {"steps": notes.steps})


def note_steps(workspace: str, digest: str) -> None:
    """Note from here on which steps the run that is on has finished, for the next equal run.

    Args:
        workspace: Where the run is.
        digest: The same for equal runs.
    """
    run = _run_id()
    if run is not None:
        file = in_workspace(workspace, Folder.BEGUN, f"{digest}.json")
        _noted[run] = _Notes(workspace, file, _read_steps(file))


def steps_so_far(workspace: str, digest: str) -> Iterator[str]:
    """Yield the steps that runs of a digest have finished and whose files are still there."""
    file = in_workspace(workspace, Folder.BEGUN, f"{digest}.json")
    for step, folders in _read_steps(file).items():
        manifests = [join(absolute(workspace), folder, MANIFEST) for folder in folders]
        if manifests and all(map(exists, manifests)):
            yield step


def record_finished(workspace: str) -> None:
    """Write which stages of this workspace the run that is on went through; call it at its end.

    Equal runs have one record.
    """
    run = _run_id()
    if run is None:
        return
    _noted.pop(run, None)
    names = sorted(_inside(workspace, _passed.pop(run, set())))
    record = in_workspace(workspace, Folder.FINISHED, f"{fingerprint('stages', names)}.json")
    write_json(record, {"stages": names})


def stages_of_finished_runs(workspace: str) -> set[str]:
    """Return the folders, in the workspace, of the stages that finished runs went through."""
    folder = in_workspace(workspace, Folder.FINISHED)
    records = [name for name in names_in(folder) if name.endswith(".json")]
    return {stage for name in records for stage in read_json(join(folder, name))["stages"]}


def stages_of_begun_run(record: str) -> set[str]:
    """Return the folders, in the workspace, that a record of a begun run names."""
    return {folder for folders in _read_steps(record).values() for folder in folders}


def _read_steps(file: str) -> dict[str, list[str]]:
    steps: dict[str, list[str]] = read_json(file)["steps"] if exists(file) else {}
    return steps


def _inside(workspace: str, folders: Iterable[str]) -> Iterator[str]:
    """Yield the names of the folders that are in a workspace."""
    home = absolute(workspace).rstrip("/") + "/"
    yield from (folder.removeprefix(home) for folder in folders if folder.startswith(home))


def _run_id() -> UUID | None:
    flow = context.FlowRunContext.get()
    return None if flow is None or flow.flow_run is None else flow.flow_run.id


def _folders(value: Any) -> Iterator[str]:
    """Yield the folder of each reference: the value itself, in its fields, and in their fields."""
    if isinstance(value, Ref):
        yield value.run or value.uri if isinstance(value, EmbeddingsRef) else value.uri
    if isinstance(value, BaseModel):
        yield from _folders(tuple(getattr(value, name) for name in type(value).model_fields))
    elif isinstance(value, tuple):
        for item in value:
            yield from _folders(item)
