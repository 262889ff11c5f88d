"""Keep every library quiet: no telemetry, no cloud metadata probes, no port open to the network.

`apply` sets the switches that are environment variables, and never overrides a value that is set;
what is on this machine is reached without a proxy. Some behaviour of Ray has no switch; `local_ray`
prevents it while a local Ray starts. The file infra/README.md lists the connections with and
without this module.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from infra import ray_token
from infra.reaper import reaping

CLOSED_PORT = "http://127.0.0.1:9/"  # the discard service: nobody listens, nothing leaves
RAY_CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's name; "0" acts on Linux too
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LONGEST_FOLDER = 103 - 72  # bytes of a socket's path on Linux and macOS, less what Ray appends
SHORT_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108  # Ray makes a folder of its own in it

_UNASKED = {  # bars and links of MLflow, between the lines of a command's output
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

unusable_proxies: list[str] = []  # variables whose proxy was replaced


def quiet_environment() -> dict[str, str]:
    """Return the switches as environment variables, for a process or for Ray's `env_vars`."""
    return {
        "DO_NOT_TRACK": "1",  # Prefect's client, huggingface_hub, and others that honour it
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # the server's heartbeat
        "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow takes DO_NOT_TRACK only if it says "true"
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # `ray start` still posts one report, that says "disabled"; it goes to a closed port.
        "RAY_USAGE_STATS_REPORT_URL": CLOSED_PORT,
    }


def apply() -> None:
    """Set the switches that are not set. Call it before prefect, ray or mlflow are imported."""
    for name, value in {**quiet_environment(), **_UNASKED}.items():
        os.environ.setdefault(name, value)
    exempt_loopback()


def exempt_loopback() -> None:
    """Let nothing that is on this machine be asked for through a proxy.

    Prefect's server and Ray would wait for minutes for a proxy that cannot reach them. A proxy that
    Prefect's client cannot use would end each run, though nothing is asked of it: a closed port
    takes its place, so that nothing goes past it either, and `unusable_proxies` has its name.
    """
    given = [name for name in os.environ if name.lower() in PROXIES and os.environ[name]]
    for name in given:
        if not _can_be_used(os.environ[name]):
            os.environ[name] = CLOSED_PORT
            unusable_proxies.append(name)
    for variable in ("NO_PROXY", "no_proxy") if given else ():
        hosts = [host for host in os.environ.get(variable, "").split(",") if host]
        os.environ[variable] = ",".join([*hosts, *(h for h in LOOPBACK if h not in hosts)])


def _can_be_used(proxy: str) -> bool:
    """Return whether httpx can use a proxy: of HTTP, or of SOCKS 5 with the package for it."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port is no number
        return False
    if parts.scheme in ("socks5", "socks5h"):
        return is_whole and find_spec("socksio") is not None
    return is_whole and parts.scheme in ("http", "https")


@contextmanager
def local_ray() -> Iterator[None]:
    """Keep Ray on this machine while `ray.init(address="local")` runs inside the block.

    Five things differ from a plain `ray.init`:

    - Three processes do not start: the dashboard, which runs even with `include_dashboard=False`,
      asks the metadata addresses of three clouds for its location, and lets all others wait; the
      monitor of the autoscaler, and that of the logs.
    - Ray finds its address with a socket towards a public one. Here it uses loopback, as on macOS.
    - The cluster uses a token made for this process, where Ray would write one into the home
      folder. `RAY_AUTH_MODE`, `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` take precedence when set.
    - Ray's agents end with this process, also while they start: see `infra.reaper`.
    - Where `TMPDIR` is too long for the path of a socket, or cannot be written, its files are in
      `/tmp` instead.
    """
    # Imported here, because infra is also imported where Ray is not needed, and before `apply`.
    from ray._private import ray_constants, services  # noqa: PLC0415
    from ray._private.node import Node  # noqa: PLC0415
    from ray._raylet import Config  # type: ignore[attr-defined]  # noqa: PLC0415

    apply()
    if not os.environ.keys() & set(ray_token.VARIABLES):
        os.environ[ray_token.MODE] = "token"
        os.environ[ray_token.TOKEN] = secrets.token_hex(32)
        Config.initialize("")  # Ray read its environment when it was imported
    with (
        patch.dict(os.environ, {"RAY_TMPDIR": ray_folder()}),
        patch.object(
            services, "start_ray_process", _on_loopback(reaping(services.start_ray_process))
        ),
        patch.object(ray_constants, "ENABLE_RAY_CLUSTER", new=False),
        patch.object(Node, "start_api_server", _without_dashboard),
        patch.object(Node, "start_monitor", _without),
        patch.object(Node, "start_log_monitor", _without),
    ):
        yield


@contextmanager
def own_words() -> Iterator[None]:
    """Keep Ray from printing the last lines of its logs when a node or a process of it dies.

    That is told in a sentence by who notices, and goes on elsewhere. For the time of `ray.init`.
    """
    from ray._private import worker  # noqa: PLC0415  # as above

    with patch.object(worker, "listen_error_messages", lambda *_: None):
        yield


def _on_loopback(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Ray's process starter: all that it starts stay on loopback."""

    def start_ray_process(command: list[str], process_type: str, **options: Any) -> Any:
        variables = {**(options.pop("env_updates", None) or {}), RAY_CLUSTER_SWITCH: "0"}
        return start(command, process_type, env_updates=variables, **options)

    return start_ray_process


def _without(_node: Any) -> None:
    """Stand for the start of a process that nobody needs."""


def _without_dashboard(node: Any, **_options: Any) -> None:
    node._webui_url = None  # noqa: SLF001  # as Ray leaves it where the dashboard could not start


def usual_ray_folder() -> str:
    """Return where Ray keeps its files by itself."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDERS[0]


def ray_folder() -> str:
    """Return where a local Ray keeps its files: what a person named, or a shorter path.

    Raises:
        OSError: there is no folder with a path short enough for a socket, and writable.
    """
    usual = usual_ray_folder()
    if sys.platform == "win32":
        return usual
    for folder in (usual, *SHORT_FOLDERS):
        fits = len(os.fsencode(folder)) <= LONGEST_FOLDER
        if fits and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OSError(
        f"expected a folder for Ray's sockets that you may write to, with a path of at most "
        f"{LONGEST_FOLDER} bytes, got {usual}; name one in RAY_TMPDIR"
    )
