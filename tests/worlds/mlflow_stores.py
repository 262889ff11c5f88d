"""Real stores of MLflow beside SQLite: its server, and a PostgreSQL for the time of a block."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.worlds.served import free_port, wait_until_up

SUPERUSER = "postgres"  # of the machine; PostgreSQL refuses to run as root


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Start MLflow's server over SQLite, with two workers."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "2"]
    place = ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *place, "--artifacts-destination", str(folder / "artifacts")],
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server, folder / "server.log", 240)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def postgresql_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, of the newest version; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgresql(folder: Path, *databases: str) -> Iterator[str]:
    """Start a PostgreSQL with an empty database, and others; yield the address of the first."""
    programs = postgresql_programs()
    assert programs, "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    port, home = free_port(), folder / "postgresql"
    home.mkdir()
    as_root = os.getuid() == 0
    if as_root:
        shutil.chown(home, SUPERUSER)

    def run(program: str, *options: str) -> None:
        command = [str(programs / program), *options]
        prefix = ["setpriv", f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--clear-groups"]
        subprocess.run([*(prefix if as_root else []), *command], check=True, capture_output=True)

    run("initdb", "-D", str(home / "data"), "-U", "coft", "--auth", "trust", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {home} -c fsync=off -c max_connections=200"
    run("pg_ctl", "-D", str(home / "data"), "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        for database in databases or ("mlflow",):
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "coft", database)
        yield f"postgresql://coft@127.0.0.1:{port}/{(databases or ('mlflow',))[0]}"
    finally:
        run("pg_ctl", "-D", str(home / "data"), "-m", "immediate", "stop")
