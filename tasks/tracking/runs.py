"""The MLflow run of a flow: parameters once, metrics in batches, files; continued after a kill."""

import logging
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.specs import InputError, Spec
from tasks.storage.files import local_copy
from tasks.tracking.redaction import redact, redact_fields
from tasks.tracking.store import Tracking, connect

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Number = int | float

DIGEST = "coft.digest"
STARTS = "coft.starts"  # 1 for a run that was never interrupted
_BATCH = 100  # largest number of parameters in a request; metrics may be more
_MAX_VALUE = 6000  # characters of a parameter
_PLACE = ("phase", "peer", "round")  # columns of a history that say whose epoch it is
_TEXTS = {".html", ".json", ".txt", ".md", ".svg", ".csv", ".log", ".yaml", ".yml"}

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

    Args:
        tracking: The store, from `tracking_for`.
        experiment: Name of the experiment; created if absent.
        name: Name of the run, for people.
        digest: Digest of everything that decides the result. A killed or failed run with this
            digest is continued; a finished one is not changed, and a new run opens.
        params: Nested values are flattened to dotted names, secrets are hidden. A continued run
            keeps its values, since MLflow forbids changing them.
    """
    experiment_id = _experiment_id(tracking, experiment)
    unfinished = _continue_unfinished(tracking, experiment_id, digest)
    record = unfinished or connect(tracking).create_run(
        experiment_id, tags={DIGEST: digest, STARTS: "1"}, run_name=redact(name)
    )
    run = Run(
        tracking=tracking,
        run_id=record.info.run_id,
        experiment_id=experiment_id,
        started=record.info.start_time,
        resumed=unfinished is not None,
    )
    _log_params(run, params, existing=record.data.params)
    return run


def log_metrics(run: Run, metrics: Mapping[str, Number | None], *, step: int = 0) -> None:
    """Record metrics of one step in one request, without those that are None.

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

    Logging the same history again adds nothing: the time of a point is the start of the run plus
    the seconds of its epochs, so that MLflow takes equal points for one.
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
            Metric(_metric_name(f"{prefix}/{key}"), value, timestamp, step)
            for key, value in metrics.items()
            if value is not None
        )
    _log_batches(run, rows)


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


def _continue_unfinished(tracking: Tracking, experiment_id: str, digest: str) -> "MlflowRun | None":
    """Return the newest unfinished run with this digest, set to running again."""
    client = connect(tracking)
    runs = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{DIGEST}` = '{digest}' and attributes.status != 'FINISHED'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not runs:
        return None
    record: MlflowRun = runs[0]
    client.update_run(record.info.run_id, status="RUNNING")
    client.set_tag(record.info.run_id, STARTS, str(int(record.data.tags.get(STARTS, "1")) + 1))
    logger.info("continuing the unfinished MLflow run %s", record.info.run_id)
    return record


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
    client = connect(run.tracking)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run.run_id, metrics=metrics[start : start + _BATCH])


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
