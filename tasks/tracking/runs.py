"""One MLflow run per flow: parameters once, metrics in batches, files; continued after a kill."""

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

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Number = int | float

DIGEST = "coft.digest"
STARTS = "coft.starts"  # 1 for a run that was never interrupted
_BATCH = 100  # what a server takes at once of parameters; of metrics it takes more
_MAX_VALUE = 6000  # characters of a parameter
_PLACE = ("phase", "peer", "round")  # columns of a history that say whose epoch it is
_TEXTS = {".html", ".json", ".txt", ".md", ".svg", ".csv", ".log", ".yaml", ".yml"}

logger = logging.getLogger(__name__)


class Run(Spec):
    """An open MLflow run: what the functions below, and `register_model`, write to."""

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
        experiment: Name of the experiment; made when it is not there.
        name: What people call the run.
        digest: Of everything that decides the result. A killed or failed run with this digest is
            continued; a finished one is not touched, and a new run opens.
        params: Nested values are flattened to dotted names, secrets are hidden. A continued run
            keeps the values that it has, since MLflow forbids changing them.
    """
    client = connect(tracking)
    experiment_id = _experiment_id(tracking, experiment)
    unfinished = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{DIGEST}` = '{digest}' and attributes.status != 'FINISHED'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if unfinished:
        found = unfinished[0]
        starts = int(found.data.tags.get(STARTS, "1")) + 1
        client.update_run(found.info.run_id, status="RUNNING")
        client.set_tag(found.info.run_id, STARTS, str(starts))
        logger.info("continuing the unfinished MLflow run %s", found.info.run_id)
    else:
        found = client.create_run(
            experiment_id, tags={DIGEST: digest, STARTS: "1"}, run_name=redact(name)
        )
    run = Run(
        tracking=tracking,
        run_id=found.info.run_id,
        experiment_id=experiment_id,
        started=found.info.start_time,
        resumed=bool(unfinished),
    )
    _log_params(run, params, known=found.data.params)
    return run


def log_metrics(run: Run, metrics: Mapping[str, Number | None], *, step: int = 0) -> None:
    """Record numbers of one moment in one request; None is left out.

    A character that MLflow does not allow in a name becomes `_`.
    """
    from mlflow.entities import Metric  # noqa: PLC0415 # slow to import, see store.connect

    now = int(time.time() * 1000)
    rows = [
        Metric(_metric_name(name), float(value), now, step)
        for name, value in metrics.items()
        if value is not None
    ]
    _log_all(run, rows)


def log_history(run: Run, history: Sequence[Mapping[str, object]]) -> None:
    """Record the epochs of a `history.json` as curves over the epoch.

    Those of a peer are called `phase1/peer1/loss`, those of a round's learner `round2/loss`.

    Logging the same history again adds nothing: the time of a point is the start of the run plus
    the seconds that its epochs took, so that equal points are equal to MLflow as well.
    """
    from mlflow.entities import Metric  # noqa: PLC0415 # slow to import, see store.connect

    rows: list[Metric] = []
    elapsed = 0.0
    for record in history:
        numbers = {
            key: _number(value) for key, value in record.items() if key not in (*_PLACE, "epoch")
        }
        elapsed += numbers.get("seconds") or 0.0
        prefix = "/".join(f"{key}{record[key]}" for key in _PLACE if key in record)
        moment, step = run.started + int(elapsed * 1000), int(_number(record.get("epoch")) or 0)
        rows.extend(
            Metric(_metric_name(f"{prefix}/{key}"), value, moment, step)
            for key, value in numbers.items()
            if value is not None
        )
    _log_all(run, rows)


def log_text(run: Run, text: str, name: str) -> None:
    """Record a text as the artifact `name` ("notes/health.md"); secrets are hidden."""
    connect(run.tracking).log_text(run.run_id, redact(text), name)


def log_file(run: Run, uri: str | Path, *, folder: str | None = None) -> None:
    """Record a file, local or in a bucket, among the artifacts; secrets in a text are hidden.

    Args:
        run: The open run.
        uri: The file.
        folder: Where among the artifacts, the top by default.
    """
    with local_copy(str(uri)) as path:
        if not path.is_file():
            msg = f"expected a file to record at {redact(str(uri))}, found none"
            raise InputError(msg)
        with _without_secrets(path) as clean:
            connect(run.tracking).log_artifact(run.run_id, str(clean), folder)


def finish_run(run: Run, status: RunStatus = "FINISHED") -> None:
    """Close the run. One that FAILED or was KILLED is continued by the next equal flow."""
    connect(run.tracking).set_terminated(run.run_id, status)


def _experiment_id(tracking: Tracking, name: str) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # slow to import

    client = connect(tracking)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=tracking.artifacts)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        msg = f"the MLflow experiment {name!r} was deleted; restore it with `mlflow experiments"
        raise InputError(f"{msg} restore --experiment-id {found.experiment_id}`, or name another")
    return str(found.experiment_id)


def _log_params(run: Run, params: Mapping[str, object], known: Mapping[str, str]) -> None:
    from mlflow.entities import Param  # noqa: PLC0415 # slow to import, see store.connect

    rows = [
        Param(_metric_name(key), value[:_MAX_VALUE])
        for key, value in redact_fields(params).items()
        if _metric_name(key) not in known
    ]
    client = connect(run.tracking)
    for start in range(0, len(rows), _BATCH):
        client.log_batch(run.run_id, params=rows[start : start + _BATCH])


def _log_all(run: Run, metrics: "list[Metric]") -> None:
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
    """Give the file itself, or a cleaned copy of the same name when it is a text with secrets."""
    if path.suffix.lower() not in _TEXTS:
        yield path
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    clean = redact(text)
    if clean == text:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        copy = Path(folder) / path.name
        copy.write_text(clean, encoding="utf-8", errors="surrogateescape")
        yield copy
