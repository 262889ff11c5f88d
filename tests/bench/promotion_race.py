"""Twenty processes promote and roll back at one moment, on every kind of store.

    python -m tests.bench.promotion_race [--processes 20] [--rounds 3] [STORE...]

A store is `sqlite`, `server` (MLflow's own, over SQLite, started here), `postgresql` (started here,
where Debian's package is installed) or the address of one that is there and empty.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.tracking.store import Tracking, connect
from tests.worlds.mlflow_stores import mlflow_server, postgresql
from tests.worlds.promoters import check, race, register_versions


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    """Yield the address of a store of some kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'mlflow.db'}"
    elif kind == "server":
        with mlflow_server(folder) as url:
            yield url
    elif kind == "postgresql":
        with postgresql(folder) as url:
            yield url
    else:
        yield kind


def measure(kind: str, processes: int, rounds: int) -> None:
    """Race some rounds on one store, and say what came of it."""
    folder = Path(tempfile.mkdtemp(prefix="coft-race-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with store(kind, folder) as uri:
            tracking = Tracking(uri=uri, artifacts=folder.as_uri())  # no home: no lock of files
            register_versions(tracking, processes + 1)
            backs = processes // 5
            for number in range(rounds):
                versions = [str(version) for version in range(2, processes + 2 - backs)]
                started = time.monotonic()
                told = race(tracking, ["back"] * backs + versions)
                won, lost = check(tracking, told)
                seconds = time.monotonic() - started
                sys.stdout.write(
                    f"{kind}, round {number + 1}: {processes} at once, {won} won, {lost} heard "
                    f"who had, {len(told) - won - lost} had nothing to go back to; "
                    f"previous is right; {seconds:.0f} s\n"
                )
                sys.stdout.flush()
            connect.cache_clear()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Race on each store that was named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stores", nargs="*", default=["sqlite", "server", "postgresql"])
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for kind in given.stores:
        measure(kind, given.processes, given.rounds)


if __name__ == "__main__":
    main()
