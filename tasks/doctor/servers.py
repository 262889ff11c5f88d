"""Checks of servers; only those that the environment names are contacted."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from infra import offline
from tasks.doctor.findings import Check, fine, note, wrong
from tasks.specs import InputError
from tasks.storage.uris import redact
from tasks.tracking.database import check_database
from tasks.tracking.store import check_reachable, tracking_for

PATIENCE = 3.0  # seconds for an answer; a check has five
_LOCAL = ("", "local")
_RAY_PORT = 6379
_ASK_RAY = """
import json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(json.dumps(ray.cluster_resources()))
"""


def check_ray(address: str | None) -> Check:
    """Ask the cluster at an address for its resources, without starting anything."""
    if (address or "") in _LOCAL:
        return fine("ray", "no address is set: Ray starts in the process of a run")
    assert address is not None  # noqa: S101
    redacted = redact(address)
    if not (reached := reach_ray(address)).ok:
        return reached
    resources = _ask_ray(address)
    if resources is None:
        return note("ray", f"{redacted}: no resources could be read in time")
    parts = [f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU")]
    return fine("ray", f"{redacted}: {', '.join(parts)}")


def reach_ray(address: str | None) -> Check:
    """Find out whether anybody listens where a cluster is said to be, or where `auto` finds it."""
    if address is None or address in _LOCAL:
        return fine("ray", "on this machine")
    place = _address_of_auto() if address == "auto" else address
    if place is None:
        advice = "start one here (`ray start --head`), name its address, or name none"
        return wrong("ray", "auto: no cluster was found on this machine", advice)
    try:
        _connect(place, _RAY_PORT)
    except OSError as error:
        advice = "start the cluster, or name none to run on this machine"
        return wrong("ray", f"{redact(place)} does not answer ({error})", advice)
    return fine("ray", redact(place))


def _address_of_auto() -> str | None:
    """Return where Ray looks for `auto`: the environment, its processes here, and its own note."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named not in (*_LOCAL, "auto"):
        return named
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            for word in process.info["cmdline"] or ():
                if word.startswith("--gcs-address="):
                    return str(word.partition("=")[2])
    file = Path(offline.usual_ray_folder()) / "ray" / "ray_current_cluster"
    return file.read_text().strip() or None if file.is_file() else None


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


def _connect(address: str, port: int) -> None:
    """Open a connection and close it; raises OSError when no server listens."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        server = (parts.hostname or "", parts.port or port)
    except ValueError as error:
        raise OSError(str(error)) from error
    socket.create_connection(server, timeout=PATIENCE).close()


def _ask_ray(address: str) -> dict[str, float] | None:
    """Return the resources of a cluster, by a subprocess that can be killed; None on failure."""
    command = [sys.executable, "-c", _ASK_RAY, address]
    try:
        process = subprocess.run(  # noqa: S603  # our own code; the address is one argument
            command, capture_output=True, timeout=PATIENCE + 1, check=True, env=os.environ.copy()
        )
        resources: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError):
        return None
    return resources
