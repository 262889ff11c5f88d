"""What a stage leaves in MLflow: its settings, what is left of each modality, and the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from tasks.harmony.page import drawn_matrix, write_page
from tasks.harmony.record import StateRef, read_state
from tasks.harmony.specs import StageSpec
from tasks.harmony.summary import summarize
from tasks.storage.stage import step
from tasks.storage.uris import absolute
from tasks.tracking.runs import Run, log_file, log_metrics, log_text, open_until_done, start_run
from tasks.tracking.store import EXPERIMENT, tracking_for


@contextmanager
def tracked_stage(spec: StageSpec, digest: str) -> Iterator[Run]:
    """Open the MLflow run of a stage for the block, or go on with the one that was killed."""
    state = PurePosixPath(absolute(spec.state)).name
    run = start_run(
        tracking_for(spec.runtime.workspace),
        experiment=EXPERIMENT,
        name=f"harmony-{state}-{spec.modality}",
        digest=digest,
        params=spec.model_dump(exclude={"command"}),
    )
    with open_until_done(run):
        yield run


@step("publish stage")
def publish_stage(run: Run, state: StateRef, spec: StageSpec) -> str:
    """Record what a stage came to, write the page of the state, and return where it is."""
    found = summarize(state)
    last = state.stages[-1]
    measured = {f"accuracy/{one.modality}": one.last for one in found.modalities}
    log_metrics(
        run,
        {
            **measured,
            "average": found.average,
            "forgetting": found.forgetting,
            "memory_bytes": last.record.memory_bytes,
            "state_bytes": last.record.state_bytes,
            "seconds": last.seconds,
        },
        step=last.record.number,
    )
    whole = read_state(state.uri)  # which has further stages where an earlier one is repeated
    page = write_page(whole, summarize(whole), spec.command)
    log_file(run, page)
    log_text(run, drawn_matrix(found), "accuracy.svg")
    return page
