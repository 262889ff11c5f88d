"""The MLflow run of a flow: parameters and metrics once, files; continued after a kill."""

import logging
import math
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.specs import InputError, Spec
from tasks.storage.files import local_copy
from tasks.tracking.database import SQLITE
from tasks.tracking.redaction import HIDDEN, redact, redact_fields
from tasks.tracking.running import (
    FOLDER,
    SILENT_AFTER,
    Owner,
    hold,
    is_dead,
    let_go,
    machine,
)
from tasks.tracking.store import EXPERIMENT, Tracking, connect

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Number = int | float

DIGEST = "coft.digest"
STARTS = "coft.starts"  # 1 for a run that was never interrupted
MACHINE = "coft.machine"  # that a run is, or was last, at work on
ALIVE = "coft.alive"  # seconds since 1970: the last sign of its process, where others need one
PARENT = "mlflow.parentRunId"  # by which MLflow shows runs below others
_MANY = 1000  # rows of a table
_BATCH = 100  # largest number of parameters in a request; metrics may be more
_MAX_VALUE = 6000  # characters of a parameter
_PLACE = ("phase", "peer", "round")  # columns of a history that say whose epoch it is
_TEXTS = {".html", ".json", ".txt", ".md", ".svg", ".csv", ".log", ".yaml", ".yml"}

_logged: dict[str, set[tuple[str, int]]] = defaultdict(set)  # (metric, step) of each run

logger = logging.getLogger(__name__)


class Run(Spec):
    """An open MLflow run; the functions below and `register_model` write to it."""

    tracking: Tracking
    run_id: str
    experiment_id: str
    started: int  # milliseconds since 1970, as MLflow counts
    resumed: bool = False


def start_run(
    tracking: Tracking, *, experiment: str, name: str, digest: str, params: Mapping[str, object]
) -> Run:
    """Open the run of a flow, or continue the one that the same flow left unfinished.

    Runs whose process has died, of any flow, end as KILLED.

    Args:
        tracking: The store, from `tracking_for`.
        experiment: Name of the experiment; created if absent.
        name: Name of the run, for people.
        digest: Digest of everything that decides the result. A killed or failed run with this
            digest is continued; one that is finished, or at work, is not changed, and a new run
            opens.
        params: Nested values are flattened to dotted names, secrets are hidden. A continued run
            keeps its values, since MLflow forbids changing them.
    """
    experiment_id = _experiment_id(tracking, experiment)
    end_the_dead(tracking, experiment_id)
    unfinished = _continue_unfinished(tracking, experiment_id, digest)
    record = unfinished or _new_run(tracking, experiment_id, name, digest)
    run = Run(
        tracking=tracking,
        run_id=record.info.run_id,
        experiment_id=experiment_id,
        started=record.info.start_time,
        resumed=unfinished is not None,
    )
    _log_params(run, params, existing=record.data.params)
    return run


def page_of(run: Run) -> str | None:
    """Return where a browser shows the run; None where no server does."""
    if not run.tracking.uri.startswith(("http://", "https://")):
        return None
    server = redact(run.tracking.uri).replace(f"{HIDDEN}@", "").rstrip("/")
    return f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}"


def log_metrics(run: Run, metrics: Mapping[str, Number | None], *, step: int = 0) -> None:
    """Record metrics of one step in one request, without those that are None.

    Each metric has one value at a step: the first one, also when a run is continued or tried again.
    A character that MLflow does not allow in a name becomes `_`.
    """
    from mlflow.entities import Metric  # noqa: PLC0415 # slow to import, see store.connect

    now = int(time.time() * 1000)
    rows = [
        Metric(_metric_name(name), float(value), now, step)
        for name, value in metrics.items()
        if value is not None
    ]
    _log_batches(run, rows)


def log_history(run: Run, history: Sequence[Mapping[str, object]]) -> None:
    """Record the epochs of a `history.json` as curves over the epoch.

    Those of a peer are called `phase1/peer1/loss`, those of a round's learner `round2/loss`.

    Logging the same history again adds nothing. The time of a point is the start of the run plus
    the seconds of its epochs.
    """
    from mlflow.entities import Metric  # noqa: PLC0415 # slow to import, see store.connect

    rows: list[Metric] = []
    elapsed = 0.0
    for record in history:
        metrics = {
            key: _number(value) for key, value in record.items() if key not in (*_PLACE, "epoch")
        }
        elapsed += metrics.get("seconds") or 0.0
        prefix = "/".join(f"{key}{record[key]}" for key in _PLACE if key in record)
        timestamp, step = run.started + int(elapsed * 1000), int(_number(record.get("epoch")) or 0)
        rows.extend(
            Metric(_metric_name(f"{prefix}/{key}".lstrip("/")), value, timestamp, step)
            for key, value in metrics.items()
            if value is not None
        )
    _log_batches(run, rows)


def log_child(
    run: Run, name: str, params: Mapping[str, object], metrics: Mapping[str, Number | None]
) -> None:
    """Record a finished run of its own below an open one: a row of a table.

    Args:
        run: The open run, to which nothing is added that it has already.
        name: Of the row, for people; the same name again changes nothing.
        params: What was run.
        metrics: What came of it, without those that are None.
    """
    client = connect(run.tracking)
    below = f"tags.`{PARENT}` = '{run.run_id}'"
    known = client.search_runs([run.experiment_id], filter_string=below, max_results=_MANY)
    if any(record.info.run_name == name for record in known):
        return
    record = client.create_run(run.experiment_id, tags={PARENT: run.run_id}, run_name=name)
    child = run.model_copy(update={"run_id": record.info.run_id, "resumed": False})
    _log_params(child, params, existing={})
    log_metrics(child, metrics)
    client.set_terminated(child.run_id, "FINISHED")
    _logged.pop(child.run_id, None)


def log_text(run: Run, text: str, name: str) -> None:
    """Record a text as the artifact `name` ("notes/health.md"); secrets are hidden."""
    connect(run.tracking).log_text(run.run_id, redact(text), name)


def log_file(run: Run, uri: str | Path, *, folder: str | None = None) -> None:
    """Record a file, local or in a bucket, among the artifacts; secrets in a text are hidden.

    Args:
        run: The open run.
        uri: The file.
        folder: Folder among the artifacts, the root by default.
    """
    with local_copy(str(uri)) as path:
        if not path.is_file():
            msg = f"expected a file to record at {redact(str(uri))}, found none"
            raise InputError(msg)
        with _without_secrets(path) as redacted:
            connect(run.tracking).log_artifact(run.run_id, str(redacted), folder)


def finish_run(run: Run, status: RunStatus = "FINISHED") -> None:
    """Close the run. One that FAILED or was KILLED is continued by the next equal flow."""
    connect(run.tracking).set_terminated(run.run_id, status)
    _logged.pop(run.run_id, None)
    if run.tracking.home is not None:
        let_go(_file(run.tracking.home, run.run_id))


@contextmanager
def open_until_done(run: Run) -> Iterator[Run]:
    """Close an open run after the block, as FINISHED, FAILED or KILLED by how the block ended."""
    try:
        yield run
    except BaseException as error:
        finish_run(run, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    finish_run(run)


def _experiment_id(tracking: Tracking, name: str) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # slow to import

    client = connect(tracking)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=tracking.artifacts)
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        msg = f"the MLflow experiment {name!r} was deleted; restore it with `mlflow experiments"
        raise InputError(
            f"{msg} restore --experiment-id {experiment.experiment_id}`, or name another"
        )
    return str(experiment.experiment_id)


def end_dead_runs(tracking: Tracking) -> list[str]:
    """End the runs of dead processes in the experiment of flows; return their names."""
    experiment = connect(tracking).get_experiment_by_name(EXPERIMENT)
    return [] if experiment is None else end_the_dead(tracking, experiment.experiment_id)


def end_the_dead(tracking: Tracking, experiment_id: str) -> list[str]:
    """End the runs that MLflow has as running, and whose process is known to have died.

    Returns:
        Their names.
    """
    client, ended = connect(tracking), list[str]()
    running = "attributes.status = 'RUNNING'"
    for record in client.search_runs([experiment_id], filter_string=running):
        owner = _owner(tracking, record)
        if owner is not None and (is_dead(owner) or _is_silent(owner, record)):
            # Whoever ends its own run lets go of it afterwards: only now its status is the last.
            if client.get_run(record.info.run_id).info.status == "RUNNING":
                client.set_terminated(record.info.run_id, "KILLED")
                ended.append(record.info.run_name)
            let_go(owner.file)
    return ended


def _is_silent(owner: Owner, record: "MlflowRun") -> bool:
    """Return whether a process that this machine does not see has given no sign for long."""
    alive = float(record.data.tags.get(ALIVE, "inf"))
    return not owner.file.exists() and time.time() - alive > SILENT_AFTER


def _new_run(tracking: Tracking, experiment_id: str, name: str, digest: str) -> "MlflowRun":
    tags = {DIGEST: digest, STARTS: "1", MACHINE: machine()}
    record = connect(tracking).create_run(experiment_id, tags=tags, run_name=redact(name))
    if owner := _owner(tracking, record):
        hold(owner, _sign(tracking, record.info.run_id))
    return record


def _continue_unfinished(tracking: Tracking, experiment_id: str, digest: str) -> "MlflowRun | None":
    """Return the newest unfinished run with this digest that nobody has, set to running again."""
    runs = connect(tracking).search_runs(
        [experiment_id],
        filter_string=f"tags.`{DIGEST}` = '{digest}' and attributes.status != 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    return next((run for run in runs if _continue(tracking, run)), None)


def _continue(tracking: Tracking, record: "MlflowRun") -> bool:
    """Take a run for this process; False where another one has it, or has just finished it."""
    owner, client, run_id = _owner(tracking, record), connect(tracking), record.info.run_id
    if owner is not None and not hold(owner, _sign(tracking, run_id)):
        return False
    if client.get_run(run_id).info.status == "FINISHED":
        if owner is not None:
            let_go(owner.file)
        return False
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, STARTS, str(int(record.data.tags.get(STARTS, "1")) + 1))
    client.set_tag(run_id, MACHINE, machine())
    logger.info("continuing the unfinished MLflow run %s", run_id)
    _logged[run_id] = {
        (name, point.step)
        for name in record.data.metrics
        for point in client.get_metric_history(run_id, name)
    }
    return True


def _owner(tracking: Tracking, record: "MlflowRun") -> Owner | None:
    """Return what tells whether a run is at work; None for runs that other programs opened."""
    if tracking.home is None or DIGEST not in record.data.tags:
        return None
    file = _file(tracking.home, record.info.run_id)
    return Owner(file, record.data.tags.get(MACHINE, machine()))


def _sign(tracking: Tracking, run_id: str) -> Callable[[], object] | None:
    """Return what tells a server that a run is at work, given once now; None for a local file."""
    if tracking.uri.startswith(SQLITE):
        return None
    client = connect(tracking)

    def give() -> None:
        client.set_tag(run_id, ALIVE, f"{time.time():.0f}")

    give()
    return give


def _file(home: str, run_id: str) -> Path:
    return Path(home) / FOLDER / run_id


def _log_params(run: Run, params: Mapping[str, object], existing: Mapping[str, str]) -> None:
    from mlflow.entities import Param  # noqa: PLC0415 # slow to import, see store.connect

    rows = [
        Param(_metric_name(key), value[:_MAX_VALUE])
        for key, value in redact_fields(params).items()
        if _metric_name(key) not in existing
    ]
    client = connect(run.tracking)
    for start in range(0, len(rows), _BATCH):
        client.log_batch(run.run_id, params=rows[start : start + _BATCH])


def _log_batches(run: Run, metrics: "list[Metric]") -> None:
    """Record the metrics that the run has not got at their step."""
    client, logged = connect(run.tracking), _logged[run.run_id]
    new = [metric for metric in metrics if (metric.key, metric.step) not in logged]
    for start in range(0, len(new), _BATCH):
        batch = new[start : start + _BATCH]
        client.log_batch(run.run_id, metrics=batch)
        logged |= {(metric.key, metric.step) for metric in batch}


def _metric_name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


@contextmanager
def _without_secrets(path: Path) -> Iterator[Path]:
    """Yield the file itself, or a redacted copy of the same name when it is a text with secrets."""
    if path.suffix.lower() not in _TEXTS:
        yield path
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    redacted = redact(text)
    if redacted == text:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        copy = Path(folder) / path.name
        copy.write_text(redacted, encoding="utf-8", errors="surrogateescape")
        yield copy
