"""`coft embed` from outside: how long, how much memory, and when its actors were at work."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tasks.backbone import describe
from tasks.features.actor import EmbedActor, EmbedJob
from tasks.features.towers import tower_of
from tasks.pool.shards import Shard
from tasks.specs import BackboneSpec, PoolSpec, RuntimeSpec
from tests.bench import images
from tests.bench.measure import say

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("MLFLOW_TRACKING_URI", "PREFECT_API_KEY", "PREFECT_API_URL", "RAY_ADDRESS")


@dataclass(frozen=True)
class EmbedRun:
    """One run of `coft embed` and the marks that it left; seconds unless a name says otherwise."""

    workspace: Path
    started: float
    ended: float
    marks: tuple[dict[str, Any], ...]

    @property
    def wall(self) -> float:
        """Return the time from the start of the process to its end."""
        return self.ended - self.started

    @property
    def num_images(self) -> int:
        """Return how many images were embedded."""
        return sum(int(mark["images"]) for mark in self._named("sweep"))

    def at_work(self, name: str) -> float:
        """Return for how long at least one worker was in "scan" or in "sweep"."""
        return covered((mark["begun"], mark["ended"]) for mark in self._named(name))

    @property
    def start(self) -> float:
        """Return what starting and ending Python, Prefect, Ray and the actors takes."""
        first_scan = min(mark["begun"] for mark in self._named("scan"))
        first_sweep = min(mark["begun"] for mark in self._named("sweep"))
        (asked,) = self._named("actors asked for")
        until_work = first_scan - self.started
        return float(until_work + (first_sweep - asked["ended"]) + self.leaving)

    @property
    def first_images(self) -> float:
        """Return how long after the command the first part was embedded."""
        return float(min(mark["ended"] for mark in self._named("sweep")) - self.started)

    @property
    def leaving(self) -> float:
        """Return how long the process takes to end after its last line."""
        (command,) = self._named("command")
        return float(self.ended - command["ended"])

    def peak_mb(self, name: str) -> float:
        """Return the peak memory of the "command" (the driver) or of an actor ("sweep")."""
        return max(float(mark["peak_mb"]) for mark in self._named(name))

    @property
    def peak_cuda_mb(self) -> float:
        """Return the peak of the device's memory in an actor; 0 without a GPU."""
        return max(float(mark["cuda_mb"]) for mark in self._named("sweep"))

    @property
    def parts(self) -> list[str]:
        """Return the parts of the pool."""
        return sorted(map(str, self.workspace.glob("pool/*/images/part-*.parquet")))

    def _named(self, name: str) -> list[dict[str, Any]]:
        return [mark for mark in self.marks if mark["name"] == name]


@dataclass
class Bench:
    """What the benchmarks of one run share: sizes, a folder, and runs that two of them read."""

    folder: Path
    quick: bool
    images: Path | None = None
    seconds: float | None = None
    _runs: dict[int, EmbedRun] = field(default_factory=dict)
    _photos: str = ""

    @cached_property
    def device(self) -> torch.device:
        """Return the GPU where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def photos(self) -> tuple[Path, str]:
        """Return the folder of the pictures of the throughput benchmark, and what they are."""
        folder = self.folder / "photos"
        return folder, images.write_photos(folder, 96 if self.quick else 2000)

    @cached_property
    def labelled(self) -> tuple[Path, str]:
        """Return a Parquet file of labelled pictures as those of CIFAR-10, and what they are."""
        if self.images:
            return self.images, self.images.name
        return images.labelled(self.folder / "labelled.parquet", quick=self.quick)

    def small_run(self, count: int) -> EmbedRun:
        """Run `coft embed` over `count` pictures of 64 pixels, once for all that ask."""
        if count not in self._runs:
            folder = self.folder / f"small-{count}"
            images.write_generated(folder, count, side=64)
            self._runs[count] = self.embed(folder)
        return self._runs[count]

    def embed(self, pictures: Path, *, backbone: str | None = None) -> EmbedRun:
        """Run `coft embed` in a process and a workspace of its own, after one that is not counted.

        A person's second run finds Prefect's database made and Python's files compiled.

        Args:
            pictures: What `--images` takes.
            backbone: What `--backbone` takes; None leaves the default.
        """
        _ = self._warmed_up
        return self._embed(pictures, ["--backbone", backbone] if backbone else [])

    @cached_property
    def _warmed_up(self) -> EmbedRun:
        folder = self.folder / "warm-up"
        images.write_generated(folder, 8, side=64)
        return self._embed(folder)

    def _embed(self, pictures: Path, options: Sequence[str] = ()) -> EmbedRun:
        workspace = self.folder / f"workspace-{pictures.name}"
        marks = workspace / "marks"
        marks.mkdir(parents=True)
        words = ["embed", "--images", str(pictures), "--workspace", str(workspace), *options]
        words += ["--rows-per-shard", "32"] if self.quick else []
        say(f"  coft embed: {pictures.name}")
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.embed_run", str(marks), *words],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        ended = time.time()
        if done.returncode:
            raise RuntimeError(f"coft embed exited with {done.returncode}: {done.stderr[-2000:]}")
        lines = [line for file in marks.iterdir() for line in file.read_text().splitlines()]
        return EmbedRun(workspace, started, ended, tuple(map(json.loads, lines)))

    def environment(self) -> dict[str, str]:
        """Return this environment without a person's servers, and with the homes in our folder."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ELSEWHERE and not name.startswith("COFT_")
        }
        return {
            **kept,
            # Ray's workers look for this package too; libraries may lie on the path, see `bundle`.
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }


def actor_here(bench: Bench, folder: Path, *, backbone: BackboneSpec | None = None) -> EmbedActor:
    """Return the actor of `coft embed` in this process; it writes into `folder`."""
    runtime = RuntimeSpec(workspace=str(folder))
    job = EmbedJob(
        towers=(tower_of(describe(backbone or BackboneSpec())),),
        workspace=runtime.workspace,
        unreadable=str(folder / "unreadable"),
        limits=PoolSpec(images=""),
        batch_size=runtime.batch_size,
    )
    return EmbedActor(job, str(bench.device))


def sweep_all(actor: EmbedActor, parts: Iterable[str]) -> int:
    """Embed all parts as if nothing were embedded yet, and return how many images they have."""
    count = sum(actor.write_part(Shard(part, ((),))) for part in parts)
    if not actor.job.towers[0].features(actor.job.workspace).uris():
        raise RuntimeError("embedding wrote nothing")
    return count


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of spans of time."""
    total, until = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total
