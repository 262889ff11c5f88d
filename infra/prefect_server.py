"""A Prefect server for the length of a process, started in the background.

Prefect starts one by itself when a flow begins, waits for it, and imports all of its server for
that. Here it begins while images are looked at, in a process that ends with this one, however this
one ends: it reads from a pipe that nobody writes to, and the pipe closes with the last of us.

The module is run as a program too, in that other process; this one never imports Prefect's server.
"""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

ADDRESS = "PREFECT_API_URL"
_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",  # as Prefect sets it: no scheduler, no service for a team
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",  # no flow of ours keeps settings on a server
}
_PATIENCE = "120"  # seconds of the first request, which waits until the server is up

_servers: list[subprocess.Popen[bytes]] = []  # ours, kept: their pipes must not close


def start() -> None:
    """Start a server and name it to the flows of this process, unless Prefect knows of one."""
    if os.environ.get(ADDRESS) or _servers or _is_named_in_a_file():
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        process = subprocess.Popen(  # noqa: S603  # this file, and a number
            [sys.executable, "-P", __file__, str(number)],
            env={**os.environ, **_SETTINGS},
            pass_fds=[number],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        port = listener.getsockname()[1]
    _servers.append(process)
    os.environ[ADDRESS] = f"http://127.0.0.1:{port}/api"
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", _PATIENCE)


def is_own() -> bool:
    """Return whether the server that flows of this process find was started by it."""
    return bool(_servers)


def stop() -> None:
    """End the server of this process before the process ends; flows need another one then."""
    while _servers:
        process = _servers.pop()
        process.communicate()
        os.environ.pop(ADDRESS, None)


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


def _serve(listener: socket.socket) -> None:
    """Answer on a socket until the process that started this one is gone."""
    import uvicorn  # noqa: PLC0415  # in the server's process alone
    from prefect.server.api.server import create_app  # noqa: PLC0415

    config = uvicorn.Config(create_app(), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # all that was asked is answered, and the database knows it


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    _serve(socket.socket(fileno=int(sys.argv[1])))
