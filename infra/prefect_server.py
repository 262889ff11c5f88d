"""A Prefect server for the length of a process, started in the background.

Prefect starts one by itself when a flow begins, waits for it, and imports all of its server for
that. Here it begins while images are looked at, in a process that ends with this one, however this
one ends: it reads from a pipe that nobody writes to, and the pipe closes with the last of us. The
socket on which it answers is this process's own, and outlives it.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from infra import interrupts

ADDRESS = "PREFECT_API_URL"
_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",  # as Prefect sets it: no scheduler, no service for a team
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",  # no flow of ours keeps settings on a server
}
_PATIENCE = "120"  # seconds of the first request, which waits until the server is up
_ERROR = re.compile(r"^[\w.]+Error: .*", re.MULTILINE)  # last line of a traceback
_MOST = 4  # servers of a process, one after the other
_PROGRAM = Path(__file__).with_name("prefect_process.py")

_servers: list[subprocess.Popen[bytes]] = []  # kept: each ends when its pipe closes
_failures: list[str] = []  # why there is none any more


def start(tell: Callable[[str], None]) -> None:
    """Start a server and name it to the flows of this process, unless Prefect knows of one.

    When it dies another one takes its place, and requests wait for that. The run ends when servers
    die before they answer, or again and again; `failure` says why.

    Args:
        tell: Called with what a person should know.
    """
    if os.environ.get(ADDRESS) or _servers or _is_named_in_a_file():
        return
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    os.environ[ADDRESS] = f"http://127.0.0.1:{port}/api"
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", _PATIENCE)
    errors = _launch(listener)
    look_after = threading.Thread(target=_look_after, args=(listener, errors, tell), daemon=True)
    look_after.start()


def is_own() -> bool:
    """Return whether the server that flows of this process find was started by it."""
    return bool(_servers)


def failure() -> str | None:
    """Return why this process has no server any more, as a sentence; None while it has one."""
    return _failures[0] if _failures else None


def _launch(listener: socket.socket) -> IO[bytes]:
    """Start a server on a socket; return what it will write of its errors."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # read when the server has died
    number = listener.fileno()
    process = subprocess.Popen(  # noqa: S603  # a file of ours, and a number
        [sys.executable, "-P", str(_PROGRAM), str(number)],
        env={**os.environ, **_SETTINGS},
        pass_fds=[number],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for this process, which may have more to say to it
    )
    _servers.append(process)
    return errors


def _look_after(listener: socket.socket, errors: IO[bytes], tell: Callable[[str], None]) -> None:
    """Put another server in the place of each that dies, as long as that may help."""
    early = 0
    while True:
        was_up = _wait(_servers[-1])
        early = 0 if was_up else early + 1
        if interrupts.received():
            return
        if early > 1 or len(_servers) == _MOST:
            break
        if was_up:
            tell("Prefect's server of this run has died; another one goes on with its work.")
        errors = _launch(listener)
    times = "before it answered" if early else f"{_MOST} times"
    _failures.append(f"Prefect's server of this run died {times}{_last_error(errors)}.")
    listener.close()  # who waits for it need not any longer


def _wait(server: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of a server; return whether it has answered before."""
    assert server.stdout is not None  # noqa: S101  # we have made it so
    was_up = bool(server.stdout.read())
    server.wait()
    return was_up


def _last_error(errors: IO[bytes]) -> str:
    errors.seek(0)
    found = _ERROR.findall(errors.read().decode(errors="replace"))
    return f" ({found[-1].strip()})" if found else ""


def _is_named_in_a_file() -> bool:
    """Return whether a profile or a settings file names a server; then Prefect decides."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"
    files = (Path(profiles), *map(Path, (".env", "prefect.toml", "pyproject.toml")))
    return any(_mentions_a_server(file) for file in files)


def _mentions_a_server(file: Path) -> bool:
    try:
        return "api_url" in file.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return False
