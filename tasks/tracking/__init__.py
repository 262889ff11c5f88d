"""The only door to MLflow: where runs are kept, what a run records, which model is champion.

    tracking = tracking_for(workspace)
    run = start_run(tracking, experiment="coft", name="pets", digest=digest, params=params)
    log_history(run, history)
    model = register_model(run, bundle, name="pets", healthy=True, evidence=health)
    finish_run(run)
    promote(tracking, "pets")

MLflow takes seconds to import, and most commands never need it, so it is imported on first use.
"""

from tasks.tracking.champion import UnhealthyModel, download_bundle, pinned, promote, rollback
from tasks.tracking.redaction import redact, redact_fields
from tasks.tracking.registration import register_model
from tasks.tracking.runs import (
    Run,
    RunStatus,
    finish_run,
    log_file,
    log_history,
    log_metrics,
    log_text,
    start_run,
)
from tasks.tracking.store import Tracking, check_reachable, tracking_for
from tasks.tracking.versions import RegisteredModel, check_name, list_models

__all__ = [
    "RegisteredModel",
    "Run",
    "RunStatus",
    "Tracking",
    "UnhealthyModel",
    "check_name",
    "check_reachable",
    "download_bundle",
    "finish_run",
    "list_models",
    "log_file",
    "log_history",
    "log_metrics",
    "log_text",
    "pinned",
    "promote",
    "redact",
    "redact_fields",
    "register_model",
    "rollback",
    "start_run",
    "tracking_for",
]
