"""A Prefect server, an MLflow server and a worker on this machine: `make up` and `make down`.

    python -m infra.servers up|down [FOLDER]

What was started is in `FOLDER/processes.json`, by process id and time of start, so that nothing
else is ever stopped. Both servers keep their tables in SQLite, or in the databases `prefect` and
`mlflow` of a PostgreSQL that `COFT_DATABASE_URL` names.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from infra.offline import quiet_environment
from infra.settings import Settings

ROOT = Path(__file__).parents[1]
PROCESSES = "processes.json"
POOL = "coft"
PREFECT = ("prefect", "--no-prompt")
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
_PATIENCE = 300.0  # seconds until a server answers, on a busy machine
_GRACE = 20.0  # seconds to end by itself


_started: dict[str, "subprocess.Popen[bytes]"] = {}  # by this process


class CouldNotStart(RuntimeError):
    """A server cannot start, or ended before it answered; the message says why, or has its log."""


def up(folder: Path) -> dict[str, str]:
    """Start what does not run yet; return the variables with which flows find the servers.

    Raises:
        CouldNotStart: a port is taken, or a server ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings()
    found = {
        "PREFECT_API_URL": f"http://127.0.0.1:{settings.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{settings.mlflow_port}",
    }
    for name in ("prefect", "mlflow"):
        if name not in running(folder):
            _check_port(f"{name}_port", getattr(settings, f"{name}_port"))
    places = databases(folder, settings)
    environment = _environment(folder, found, places)
    server = ["server", "start", "--host", "127.0.0.1", "--port", str(settings.prefect_port)]
    tables = ["--backend-store-uri", places["mlflow"]]
    files = ["--artifacts-destination", str(folder / "artifacts")]
    mlflow = ["mlflow", "server", "--port", str(settings.mlflow_port), "--workers", "2"]
    _start("prefect", [*PREFECT, *server], environment, folder)
    _start("mlflow", [*mlflow, *tables, *files], environment, folder)
    _wait("prefect", f"{found['PREFECT_API_URL']}/health", folder)
    _wait("mlflow", f"{found['MLFLOW_TRACKING_URI']}/health", folder)
    _set_up(environment, folder)
    _start("worker", [*PREFECT, "worker", "start", "--pool", POOL], environment, folder)
    return found


def _environment(
    folder: Path, found: Mapping[str, str], places: Mapping[str, str]
) -> dict[str, str]:
    return {
        **os.environ,
        **quiet_environment(),
        **found,
        "PREFECT_HOME": str(folder / "prefect"),
        # Who holds a slot is known after a restart too; a run says twice a minute that it lives.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_API_DATABASE_CONNECTION_URL": places["prefect"],
        "COFT_POOL": POOL,
        "COFT_FOLDER": str(ROOT),
    }


def _set_up(environment: Mapping[str, str], folder: Path) -> None:
    """Tell the server what there is to run, and which runs have died."""
    template = str(ROOT / "infra" / "work-pool.json")
    pool = ["work-pool", "create", POOL, "--type", "process", "--overwrite"]
    _run(f"work pool {POOL}", [*PREFECT, *pool, "--base-job-template", template], environment)
    deploy = ["infra.deployments", str(folder / "prefect.yaml")]
    _run("deployments of prefect.yaml", deploy, environment)
    _run("runs that have died", ["infra.dead_runs", POOL, "--here"], environment)


def down(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """End what `up` started, and what these started, by process id; return their names.

    Args:
        folder: Of `up`.
        names: What to end; by default all.
    """
    ended = []
    for name, process in reversed(running(folder).items()):
        if names is not None and name not in names:
            continue
        family = [process, *process.children(recursive=True)]
        for one in family[:1] if name == "worker" else family:  # a worker ends its runs itself
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        _, left = psutil.wait_procs(family, timeout=_GRACE)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        ended.append(name)
    if not running(folder):
        (folder / PROCESSES).unlink(missing_ok=True)
    return ended


def running(folder: Path) -> dict[str, psutil.Process]:
    """Return what runs of what was started here, by name."""
    found = {}
    for name, (number, started) in _noted(folder).items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(number))
            if abs(process.create_time() - started) < 1 and process.status() != "zombie":
                found[name] = process
    return found


def databases(folder: Path, settings: Settings) -> dict[str, str]:
    """Return where each server keeps its tables; databases that are absent are made.

    Raises:
        CouldNotStart: PostgreSQL is named, and the package that speaks to it is absent.
    """
    if settings.database_url is None:
        return {
            "prefect": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
            "mlflow": f"sqlite:///{folder / 'mlflow.db'}",
        }
    parts = urlsplit(settings.database_url.get_secret_value())
    for name in ("prefect", "mlflow"):
        _make_database(parts._replace(path=parts.path.rstrip("/") or "/postgres").geturl(), name)
    place = f"{parts.netloc}/{{}}"
    return {
        "prefect": f"postgresql+asyncpg://{place.format('prefect')}",
        "mlflow": f"postgresql://{place.format('mlflow')}",
    }


def _make_database(url: str, name: str) -> None:
    try:
        import psycopg2  # noqa: PLC0415  # an extra, for who keeps tables there
    except ImportError as error:
        raise CouldNotStart("COFT_DATABASE_URL needs the extra: '.[postgres]'") from error
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select 1 from pg_database where datname = %s", [name])
            if cursor.fetchone() is None:
                cursor.execute(f'create database "{name}"')
    finally:
        connection.close()


def _check_port(setting: str, port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            other = f"COFT_{setting.upper()}={port + 1} make up"
            raise CouldNotStart(f"port {port} is taken by another program; try {other}") from error


def _start(name: str, words: list[str], environment: Mapping[str, str], folder: Path) -> None:
    if name in running(folder):
        return
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # programs of our environment
            [sys.executable, "-m", *words],
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _say(f"starting {name}; what it says is in {folder / name}.log")
    _started[name] = process
    started = psutil.Process(process.pid).create_time()
    noted = {**_noted(folder), name: (process.pid, started)}
    (folder / PROCESSES).write_text(json.dumps(noted))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _noted(folder: Path) -> dict[str, tuple[int, float]]:
    file = folder / PROCESSES
    noted: dict[str, tuple[int, float]] = json.loads(file.read_text()) if file.exists() else {}
    return noted


def _wait(name: str, url: str, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and name in running(folder):
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310  # loopback
            return
        time.sleep(0.5)
    log = (folder / f"{name}.log").read_text(errors="replace")[-2000:]
    raise CouldNotStart(f"{name} does not answer at {url}; the end of its log:\n{log}")


def _run(what: str, words: list[str], environment: Mapping[str, str]) -> None:
    _say(what)
    command = [sys.executable, "-m", *words]
    done = subprocess.run(  # noqa: S603  # programs of our environment
        command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CouldNotStart(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def main(words: list[str]) -> int:
    """Start or stop, and say what there is."""
    folder = Path(words[1] if len(words) > 1 else "coft-servers").absolute()
    if words[:1] == ["down"]:
        ended = down(folder)
        sys.stdout.write(f"ended: {', '.join(ended) or 'nothing was running'}\n")
        return 0
    try:
        found = up(folder)
    except CouldNotStart as error:
        down(folder, _started)
        sys.stderr.write(f"{error}\n")
        return 1
    lines = "".join(f"  export {name}={value}\n" for name, value in found.items())
    page = found["PREFECT_API_URL"].removesuffix("/api")
    sys.stdout.write(f"up: {', '.join(running(folder))}; pages {page} and ")
    sys.stdout.write(f"{found['MLFLOW_TRACKING_URI']}\n{lines}`make down` ends them.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
