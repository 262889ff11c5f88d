"""Commands, here or in a process of their own: what came of each, and what it printed or loaded."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import cli

ROOT = Path(__file__).parents[2]
SLOW = ("torch", "prefect", "ray", "mlflow", "open_clip", "sklearn", "matplotlib")

# Runs commands in a row in one process; after each one it says what came of it, and what is loaded.
PROGRAM = """
import contextlib, io, json, sys
from flows import cli

for words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.run(words)
    loaded = [name for name in sys.argv[1:] if name in sys.modules]
    print(json.dumps({"code": code, "said": said.getvalue(), "loaded": loaded}), flush=True)
"""


@dataclass(frozen=True)
class Place:
    """A folder with drawn images, a workspace, and a tiny CLIP."""

    folder: Path
    clip: Path

    @property
    def images(self) -> Path:
        return self.folder / "images.parquet"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def summary(self) -> Path:
        return self.folder / "made" / "summary.json"

    @property
    def kept(self) -> list[object]:
        """Where results go, and their summary."""
        return ["--workspace", self.workspace, "--summary", self.summary]

    @property
    def data(self) -> list[object]:
        """What is adapted to."""
        words = ["--images", self.images, "--labels", "column", "--rows-per-shard", 16]
        return [*words, "--backbone", f"local-dir:{self.clip}", *self.kept]

    @property
    def about(self) -> list[object]:
        """The same, in as few steps as there can be."""
        words = [*self.data, "--label.top.per-class", 4, "--label.top.min-total", 0]
        return [*words, "--phase1.epochs", 2, "--phase1.min-steps", 0, "--phase1.batch-size", 8]

    @property
    def learner(self) -> list[object]:
        """What rounds start from and train, in as few steps as there can be."""
        words = ["--start", "zero-shot", "--learner.epochs", 1, "--learner.min-steps", 2]
        return [*words, "--learner.top.per-class", 4, "--learner.top.min-total", 0]

    def made(self) -> Any:
        """Return the summary of the last command."""
        summary = json.loads(self.summary.read_text())
        self.summary.unlink()
        return summary


def coft(*words: object) -> str:
    """Run a command, which must end well, and return what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert cli.run([str(word) for word in words]) == cli.DONE
    return printed.getvalue()


def ran(commands: list[list[str]], folder: Path, **environment: str) -> list[dict[str, object]]:
    """Run commands in a row in one process and return what came of each."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *SLOW],
        input=json.dumps(commands),
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
