"""Checks of Prefect and MLflow; only servers that the environment names are contacted."""

import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlsplit

from tasks.doctor.findings import Check, fine, note, wrong
from tasks.specs import InputError
from tasks.storage.uris import redact
from tasks.tracking.database import check_database
from tasks.tracking.store import check_reachable, tracking_for

PATIENCE = 3.0  # seconds for an answer; a check has five


def check_prefect(url: str | None) -> Check:
    """Ask the Prefect server at a URL for its health."""
    if not url:
        return fine("prefect", "no PREFECT_API_URL: a run starts a server of its own")
    name = redact(url)
    try:
        with urllib.request.urlopen(_health_url(url), timeout=PATIENCE):  # noqa: S310 # checked there
            return fine("prefect", f"{name} answers")
    except urllib.error.HTTPError as error:
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return fine("prefect", f"{name} answers ({error.code})")
        reason: object = error
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
    advice = "start it, or unset PREFECT_API_URL"
    return wrong("prefect", f"{name} does not answer ({reason})", advice)


def check_mlflow(workspace: str) -> Check:
    """Ask the MLflow server for its health, or report where runs are kept."""
    tracking = tracking_for(workspace)
    try:
        check_reachable(tracking)
        check_database(tracking.uri)
    except InputError as error:
        return wrong("mlflow", str(error))
    if tracking.uri.startswith(("http://", "https://")):
        return fine("mlflow", f"{redact(tracking.uri)} answers")
    result = fine if tracking.uri.startswith("sqlite") else note
    return result("mlflow", tracking.note)


def _health_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("expected http:// or https://")
    parts = urlsplit(url)
    return parts._replace(
        netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health"
    ).geturl()
