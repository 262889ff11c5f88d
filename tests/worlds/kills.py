"""Runs that are killed at a chosen write, in processes that are forked when all is imported.

`python -m tests.worlds.kills` reads JSON lines, runs CoFT in a fork for each of the objects of one,
and answers with exit statuses and writes. The workers of the run are in its process, so that
SIGKILL ends all of it at once, as when a machine is switched off: no `finally` runs.

A write is whatever the next run could find half done: a file of the workspace that gets its name,
is opened for writing or removed, and a transaction of MLflow's database.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
MODULES = (
    "flows.coft",
    "flows.coft_plus",
    "tasks.report.document",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "clipcore.backbone",
    "open_clip.model",
    "prefect.task_engine",
    "sklearn.manifold",
)


class Ended(NamedTuple):
    """How a run ended: its exit status, minus the signal's number after one, and its writes."""

    status: int
    writes: list[str]


class Runs:
    """Starts runs, one after the other.

    Args:
        program: That runs them.
        database: Of MLflow, with its tables and nothing else.
    """

    def __init__(self, program: subprocess.Popen[str], database: Path) -> None:
        self._program = program
        self._database = database

    def run(self, spec: Any, *, summary: Path, kill_at: int = 0) -> Ended:
        """Run CoFT, and kill it before its write of this number, from 1; 0 lets it end.

        A new workspace gets the database first: to make its tables takes seconds.
        """
        workspace = Path(spec.runtime.workspace)
        if not workspace.exists():
            workspace.mkdir()
            shutil.copy(self._database, workspace)
        (ended,) = self.run_at_once([spec], summaries=[summary], kill_at=kill_at)
        return ended

    def run_at_once(
        self, specs: Sequence[Any], *, summaries: Sequence[Path], kill_at: int = 0
    ) -> list[Ended]:
        """Run several, each in a process of its own, and write what came of each."""
        assert self._program.stdin
        assert self._program.stdout
        words = [
            {"spec": spec.model_dump(mode="json"), "summary": str(summary), "kill_at": kill_at}
            for spec, summary in zip(specs, summaries, strict=True)
        ]
        self._program.stdin.write(json.dumps(words) + "\n")
        self._program.stdin.flush()
        return [Ended(*answer) for answer in json.loads(self._program.stdout.readline())]


@contextmanager
def forked_runs(database: Path) -> Iterator[Runs]:
    """Import everything once, for the time of a block.

    Args:
        database: Of MLflow, with its tables and nothing else.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.worlds.kills"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield Runs(program, database)
        finally:
            program.kill()


# --- in the program -------------------------------------------------------------------------------


class Writes:
    """Counts the writes of this process, and kills it before one of them."""

    def __init__(self, workspace: str, kill_at: int, to_parent: int) -> None:
        self._root = os.path.join(workspace, "")  # noqa: PTH118
        self._kill_at = kill_at
        self._count = 0
        self._to_parent = to_parent

    def watch(self) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        sys.addaudithook(self._hear)
        event.listen(Engine, "commit", lambda _connection: self._write("commit"))

    def _hear(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "os.rename":
            self._write_file("name", arguments[1])
        elif name == "os.remove":
            self._write_file("remove", arguments[0])
        elif name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE:
            self._write_file("open", arguments[0])

    def _write_file(self, kind: str, path: object) -> None:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        is_temporary = name.endswith((".partial", ".lock")) and kind != "open"
        if name.startswith(self._root) and not is_temporary:
            self._write(f"{kind} {name.removeprefix(self._root)}")

    def _write(self, what: str) -> None:
        self._count += 1
        os.write(self._to_parent, f"{what}\n".encode())
        if self._count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Here:
    """Workers in this process, with the face of `tasks.compute.workers.Workers`."""

    device, are_one = "cpu", False

    def __init__(self) -> None:
        from tasks.compute.worker import Worker

        self._loads = dict.fromkeys(range(2), 0)
        self._workers = [Worker("cpu", 1) for _ in self._loads]

    def begin(self, runtime: Any) -> None: ...

    def drop(self, members: Collection[int]) -> None: ...

    def free(self, ahead: int) -> int | None:
        best = min(self._loads, key=lambda number: self._loads[number])
        return best if self._loads[best] < ahead else None

    def give(self, member: int, call: Any) -> Any:
        self._loads[member] += 1
        return Done(self._workers[member].do(call))

    def took(self, member: int, _words: Sequence[str] = ()) -> None:
        self._loads[member] -= 1

    def wait(self, running: Sequence[Any]) -> list[Any]:
        return list(running)


class Done:
    """The reference of a call that has been made."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


def main() -> None:
    from importlib import import_module

    from infra import offline

    offline.apply()
    for name in MODULES:
        import_module(name)
    gc.freeze()  # as workers do
    for line in sys.stdin:
        answers = [_wait(*process) for process in [_fork(run) for run in json.loads(line)]]
        print(json.dumps(answers), flush=True)  # noqa: T201


def _fork(run: dict[str, Any]) -> tuple[int, int]:
    hears, tells = os.pipe()
    if not (child := os.fork()):
        os.close(hears)
        os._exit(_run(tells, **run))
    os.close(tells)
    return child, hears


def _wait(child: int, hears: int) -> Ended:
    with open(hears) as file:
        writes = file.read().splitlines()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), writes)


def _run(tells: int, spec: dict[str, Any], summary: str, kill_at: int) -> int:
    from flows.coft import coft
    from flows.coft_plus import coft_plus
    from tasks.compute import calls
    from tasks.specs import CoftSpec

    here = Here()
    calls.workers_of = lambda *_, **__: here  # type: ignore[assignment, return-value]
    calls._result = lambda reference: reference.answer
    asked = CoftSpec.model_validate(spec)
    Writes(asked.runtime.workspace, kill_at, tells).watch()
    try:
        flow = coft_plus if asked.method == "coft-plus" else coft
        Path(summary).write_text(flow(asked).model_dump_json())
    except BaseException:  # noqa: BLE001  # a fork must not go on with its parent's work
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
