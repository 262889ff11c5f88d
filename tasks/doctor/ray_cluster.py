"""Checks of a Ray cluster: does anybody listen, and does it let this process in."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psutil

from infra import offline, ray_token
from tasks.doctor.findings import Check, fine, note, wrong
from tasks.storage.uris import redact

PATIENCE = 3.0  # seconds for an answer; a check has five
_LOCAL = ("", "local")
_RAY_PORT = 6379
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_NO_PROXY = [("grpc.enable_http_proxy", 0)]  # as Ray
_SUBMIT = "run coft on a node with --ray-address auto, or send it there with `ray job submit`"
_TO_ENTER = (
    "set RAY_AUTH_MODE=token, and give the cluster's token in ~/.ray/auth_token, or in a file that "
    "RAY_AUTH_TOKEN_PATH names"
)
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
    """Find out whether a cluster is where it is said to be, and lets this process in."""
    if address is None or address in _LOCAL:
        return fine("ray", "on this machine")
    if address.startswith("ray://"):
        return wrong(
            "ray",
            f"{redact(address)} is for Ray's client, and a run is a member of its cluster",
            _SUBMIT,
        )
    place = _address_of_auto() if address == "auto" else address
    if place is None:
        advice = "start one here (`ray start --head`), name its address, or name none"
        return wrong("ray", "auto: no cluster was found on this machine", advice)
    try:
        socket.create_connection(_server(place), timeout=PATIENCE).close()
        return _refusal(place, automatic=address == "auto") or fine("ray", redact(place))
    except OSError as error:
        advice = "start the cluster, or name none to run on this machine"
        return wrong("ray", f"{redact(place)} does not answer ({error})", advice)


def _refusal(place: str, *, automatic: bool) -> Check | None:
    """Return why a cluster does not let this process in; None where it does, or does not say."""
    try:
        token = ray_token.sent(automatic=automatic)
    except ray_token.NoToken as error:
        return wrong("ray", str(error), _TO_ENTER)
    if not _is_refused(place, token):
        return None
    if token:
        return wrong("ray", f"{redact(place)} has another token than this process", _TO_ENTER)
    return wrong("ray", f"{redact(place)} asks for a token, and none was sent", _TO_ENTER)


def _is_refused(place: str, token: str | None) -> bool:
    """Ask a cluster whether it is alive, as Ray does; Ray itself would ask for a minute.

    What does not answer at all, or wants TLS, is left to Ray.
    """
    said = [("authorization", f"Bearer {token}")] if token else None
    host, port = _server(place)
    with grpc.insecure_channel(f"{host}:{port}", options=_NO_PROXY) as channel:
        try:
            channel.unary_unary(_ALIVE)(b"", timeout=PATIENCE / 2, metadata=said)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


def _address_of_auto() -> str | None:
    """Return where Ray looks for `auto`: the environment, its processes here, and its own note."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named not in (*_LOCAL, "auto"):
        return named
    words = (word for process in _raylets() for word in process.info["cmdline"] or ())
    prefix = "--gcs-address="
    found = {word.removeprefix(prefix) for word in words if word.startswith(prefix)}
    file = Path(offline.usual_ray_folder()) / "ray" / "ray_current_cluster"
    noted = file.read_text().strip() if file.is_file() else ""
    return found.pop() if found and (len(found) == 1 or not noted) else noted or None


def _raylets() -> Iterator[psutil.Process]:
    processes = psutil.process_iter(["name", "cmdline"])
    return (process for process in processes if process.info["name"] == "raylet")


def _server(place: str) -> tuple[str, int]:
    """Return host and port of an address; raises OSError where it has none."""
    parts = urlsplit(place if "://" in place else f"//{place}")
    try:
        return parts.hostname or "", parts.port or _RAY_PORT
    except ValueError as error:
        raise OSError(str(error)) from error


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
