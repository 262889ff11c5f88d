"""A registered model behind MLflow's own server, in a process without coft."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.tracking.store import Tracking

# Denied: the project's other rooms, and every look-up of a host that is not this machine.
CLEAN_START = """
import socket, sys
for room in ("flows", "tasks", "infra"):
    sys.modules[room] = None
def getaddrinfo(host, *rest, **more):
    raise AssertionError(f"looked up {host}")
socket.getaddrinfo = getaddrinfo
"""


def clean_environment(tracking: Tracking) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # other tests look at what lies in the artifact
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_TRACKING_URI": tracking.uri,
    }


@contextlib.contextmanager
def served(tracking: Tracking, folder: Path, **environment: str) -> Iterator[str]:
    """Serve the candidate with MLflow's own server on a free port of loopback."""
    port = free_port()
    options = f"-m models:/pets@candidate --env-manager local -h 127.0.0.1 -p {port} -w 1"
    command = [sys.executable, "-m", "mlflow", "models", "serve", *options.split()]
    with running(command, {**clean_environment(tracking), **environment}, folder, port):
        yield f"http://127.0.0.1:{port}/invocations"


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], folder: Path, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that answers `/ping` until the block ends; `server.log` has its words."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", server, folder / "server.log")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_up(
    url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 60
) -> None:
    for _ in range(int(seconds * 10)):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 # loopback
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)  # type: ignore[no-any-return]
