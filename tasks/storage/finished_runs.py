"""Which stages the finished runs of a workspace went through."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from tasks.on_demand import OnDemand
from tasks.refs import EmbeddingsRef, Ref
from tasks.storage.digests import fingerprint
from tasks.storage.files import names_in, read_json, write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.uris import absolute, join

if TYPE_CHECKING:
    from prefect import context
else:  # only who runs a flow needs it; workers import the modules of steps too
    context = OnDemand("prefect.context")

_passed: dict[UUID, set[str]] = defaultdict(set)  # folders, by the flow run that went through them


def pass_through(value: Any) -> None:
    """Remember the stages to which the result of a step refers, for the run that is on."""
    run = _run_id()
    if run is not None:
        _passed[run] |= set(_folders(value))


def record_finished(workspace: str) -> None:
    """Write which stages of this workspace the run that is on went through; call it at its end.

    Equal runs have one record.
    """
    run = _run_id()
    if run is None:
        return
    home = absolute(workspace).rstrip("/") + "/"
    folders = _passed.pop(run, set())
    names = sorted(folder.removeprefix(home) for folder in folders if folder.startswith(home))
    record = in_workspace(workspace, Folder.FINISHED, f"{fingerprint('stages', names)}.json")
    write_json(record, {"stages": names})


def stages_of_finished_runs(workspace: str) -> set[str]:
    """Return the folders, in the workspace, of the stages that finished runs went through."""
    folder = in_workspace(workspace, Folder.FINISHED)
    records = [name for name in names_in(folder) if name.endswith(".json")]
    return {stage for name in records for stage in read_json(join(folder, name))["stages"]}


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
