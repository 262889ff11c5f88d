"""`ray job submit` as a person does it: a head with a token, a refusal, a stop, a run to its end.

    python -m tests.bench.ray_jobs [FOLDER]

Starts a head with its job server on loopback, asserts after each step what should have come of it,
and says one line for each thing that is shown. Takes three minutes on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import offline, ray_token
from tests.worlds.clip import write_tiny_clip
from tests.worlds.images import write_images
from tests.worlds.served import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EPOCHS = 300  # of Phase I: long enough to be stopped in it


class Person:
    """Somebody on the head, with a home that holds the token, or with one that does not.

    Args:
        folder: Where everything is.
        home: Where Ray looks for the token.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        kept = {
            name: value for name, value in os.environ.items() if name not in ray_token.VARIABLES
        }
        self.variables = {
            **kept,
            **offline.quiet_environment(),
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(folder / "t"),
            offline.RAY_CLUSTER_SWITCH: "0",  # on loopback alone
        }

    def run(
        self, *words: object, at: str = ".", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; what it says in both ways is its output."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=self.folder / at,
            env={**self.variables, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


class Head:
    """A head with a job server, and the job that is sent to it again and again."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.port, self.jobs = free_port(), free_port()
        self.workspace = person.folder / "workspace"

    @contextmanager
    def started(self) -> Iterator[None]:
        """Run the head for the time of a block."""
        words = ["start", "--head", "--block", "--disable-usage-stats", "--num-cpus", 2]
        words += ["--port", self.port, "--object-store-memory", 100 * 2**20]
        words += ["--dashboard-host", "127.0.0.1", "--dashboard-port", self.jobs]
        words += [
            "--dashboard-agent-listen-port",
            free_port(),
        ]  # another Ray may have the usual one
        with (
            (self.person.folder / "head.log").open("w") as log,
            subprocess.Popen(
                [BIN / "ray", *(str(word) for word in words)],
                env={**self.person.variables, "RAY_AUTH_MODE": "token"},
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                _wait_until(lambda: self.ask("list").returncode == 0, "the job server answers")
                yield
            finally:
                process.terminate()

    def ask(self, *words: object, person: Person | None = None) -> subprocess.CompletedProcess[str]:
        """Say `ray job ...` to the head."""
        address = {"RAY_ADDRESS": f"http://127.0.0.1:{self.jobs}", "RAY_AUTH_MODE": "token"}
        return (person or self.person).run("ray", "job", *words, **address)

    def submit(self, name: str, *options: str, person: Person | None = None) -> str:
        """Send the job, with a working directory and an environment; return what is said."""
        environment = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
        words = ["--working-dir", "job", "--runtime-env-json", json.dumps(environment)]
        sent = ["submit", *options, "--submission-id", name, *words, "--", "coft", *self.command()]
        return self.ask(*sent, person=person).stdout

    def command(self) -> list[str]:
        """Return what coft is asked for; the images are in the working directory."""
        words = ["adapt", "--images", "images.parquet", "--labels", "column"]
        words += ["--backbone", f"local-dir:{self.person.folder / 'clip'}", "--register", "colours"]
        words += ["--label.top.per-class", "4", "--label.top.min-total", "0"]
        words += ["--phase1.epochs", str(EPOCHS), "--phase1.min-steps", "0"]
        return [*words, "--phase1.batch-size", "8", "--workspace", str(self.workspace)]


def main(folder: Path) -> None:
    """Go through it from top to bottom."""
    home, other = folder / "home", folder / "stranger"
    for place in (home, other, folder / "job", folder / "t"):
        place.mkdir(parents=True)
        (place / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
    write_images(folder / "job")
    write_tiny_clip(folder / "clip")
    person = Person(folder, home)
    token = person.run("ray", "get-auth-token", "--generate").stdout.splitlines()[-1][-64:]
    assert (home / ".ray" / "auth_token").read_text() == token
    head = Head(person)
    with head.started():
        _say("the head is up, with a token")
        _refused(head, Person(folder, other))
        _stopped(head)
        _finished(head)
    _not_told(token, folder)


def _refused(head: Head, stranger: Person) -> None:
    started = time.monotonic()
    place = ["--ray-address", f"127.0.0.1:{head.port}"]
    done = stranger.run("coft", *head.command(), *place, at="job")
    said = [line for line in done.stdout.splitlines() if line.startswith("coft: ")]
    assert done.returncode == 2, done.stdout
    assert "asks for a token" in said[-1], done.stdout
    _say(f"without it coft is refused in {time.monotonic() - started:.1f} s: {said[-1]}")
    said_of_job = head.submit("refused", person=stranger)
    assert "succeeded" not in said_of_job
    _say(f"and so is a job: {said_of_job.strip().splitlines()[-1]}")


def _stopped(head: Head) -> None:
    head.submit("stopped", "--no-wait")
    _wait_until(lambda: _learns(head), "both peers learn")
    started = time.monotonic()
    head.ask("stop", "stopped")
    last = head.ask("logs", "stopped").stdout.strip().splitlines()[-1]
    assert last == "coft: stopped. The same command goes on from here.", last
    _say(f"a job is stopped in Phase I in {time.monotonic() - started:.1f} s: {last}")


def _learns(head: Head) -> bool:
    said = head.ask("status", "stopped").stdout
    assert "failed" not in said, head.ask("logs", "stopped").stdout
    return len(list((head.workspace / "peers").glob("*/resume*"))) == 2


def _finished(head: Head) -> None:
    said = head.submit("finished")
    assert "Job 'finished' succeeded" in said, said
    assert "Labels zero-shot: finished before" in said
    assert "Registered models:/colours/1" in said
    status = head.ask("status", "finished").stdout
    assert "succeeded" in status, status
    _say("the same job goes on from there, to its end: Registered models:/colours/1")


def _not_told(token: str, folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    holding = [path for path in files if token.encode() in path.read_bytes()]
    assert holding == [folder / "home" / ".ray" / "auth_token"], holding
    _say(f"the token is in none of the other {len(files) - 1} files: logs, workspace, MLflow, Ray")


def _wait_until(condition: Callable[[], bool], what: str, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.3)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="jobs-") as scratch:
            main(Path(scratch))
