"""Embedding: against the bare forward loop, the limits of the machine, and a DataLoader script.

This process keeps the memory that it frees, as coft's workers do; the peers are processes of their
own, as people start them.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from statistics import median

import pyarrow as pa
from torch import Tensor

from infra.allocator import keep_freed_memory
from tasks.features.actor import EmbedActor
from tasks.images.cache_folder import CacheFolder
from tasks.images.pixel_cache import PixelCache
from tasks.images.pixels import batches
from tasks.images.quarantine import Quarantined
from tasks.pool.readers import read_images
from tests.bench.measure import interleaved, seconds
from tests.bench.pipeline import ROOT, Bench, EmbedRun, actor_here, sweep_all
from tests.bench.rows import Row


@dataclass
class Contest:
    """The same images and the same tower, in several ways; each returns images a second."""

    actor: EmbedActor
    run: EmbedRun
    photos: Path
    script_walls: list[float] = field(default_factory=list)
    bare: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def forward(self) -> float:
        """Run the bare loop over pixels in memory, in the precision that is faster."""
        speeds: dict[str, float] = _answer("tests.bench.bare_loop", self.photos)
        for name, speed in speeds.items():
            self.bare[name].append(speed)
        return max(speeds.values())

    def decoding(self) -> float:
        """Read and decode all images, and do nothing with them."""
        _empty_cache(self.actor, self.run)
        return self.run.num_images / seconds(
            lambda: [None for part in self.run.parts for _ in decoded(self.actor, part)]
        )

    def sweep(self) -> float:
        """Let the actor embed the shards of the pool, from files to a file, for the first time."""
        _empty_cache(self.actor, self.run)
        return self.again()

    def again(self) -> float:
        """Let the actor embed them once more: the pixels are there."""
        return self.run.num_images / seconds(lambda: sweep_all(self.actor, self.run.parts))

    def script(self) -> float:
        """Run the DataLoader script; its own start is not in the answer."""
        started = time.perf_counter()
        answer = _answer("tests.bench.dataloader_script", self.photos)
        self.script_walls.append(time.perf_counter() - started)
        return float(answer["images"] / answer["seconds"])


def _answer(script: str, photos: Path) -> dict[str, float]:
    """Run a peer in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", script, str(photos)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def decoded(actor: EmbedActor, part: str) -> Sequence[Tensor]:
    """Return the batches of pixels of one part of the pool."""
    table: pa.Table = read_images(part, ["image_id", "uri", "bytes"])
    return [
        pixels
        for _, pixels in batches(
            table, actor.pixels, Quarantined("embed"), batch_size=actor.batch_size.images
        )
    ]


def _empty_cache(actor: EmbedActor, run: EmbedRun) -> None:
    """Let the actor keep pixels in a folder of its own, where there are none yet."""
    folder = next(path for n in count() if not (path := run.workspace / f"pixels-{n}").exists())
    preprocess = actor.pixels.preprocess
    actor.pixels = replace(actor.pixels, cache=PixelCache(CacheFolder(folder), preprocess))


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    keep_freed_memory()
    photos, what = bench.photos
    run = bench.embed(photos)
    actor = actor_here(bench, bench.folder / "embeddings-here")
    contest = Contest(actor, run, photos)
    speed = interleaved(
        {
            "forward": contest.forward,
            "decoding": contest.decoding,
            "sweep": contest.sweep,
            "again": contest.again,
            "script": contest.script,
        },
        rounds=1 if bench.quick else 3,
    )
    return _rows(bench, contest, speed, f"{run.num_images:,} {what}")


def _rows(bench: Bench, contest: Contest, speed: dict[str, float], what: str) -> list[Row]:
    run, forward, ours = contest.run, speed["forward"], speed["sweep"]
    in_actors = run.num_images / run.at_work("sweep")
    limit, which = _limit(bench, forward, speed["decoding"])
    bare = ", ".join(f"{name} {median(speeds):,.1f}" for name, speeds in contest.bare.items())
    command = run.num_images / run.wall
    script_wall = min(contest.script_walls)
    unit = "images/s"
    return [
        Row(
            "embed, in process : bare forward",
            unit,
            ours,
            forward,
            ours / forward,
            at_least=1.0,
            note=f"{what}; decoding alone makes {speed['decoding']:,.1f} images/s; bare: {bare}",
        ),
        Row(
            "embed again, in process : bare forward",
            unit,
            speed["again"],
            forward,
            speed["again"] / forward,
            note="pixels from the cache on disk, as all passes after the first",
        ),
        Row("embed, in process : limit", unit, ours, limit, ours / limit, at_least=0.9, note=which),
        Row(
            "embed, in process : DataLoader script",
            unit,
            ours,
            speed["script"],
            ours / speed["script"],
            at_least=1.0,
            note="both without their start; the script in fp32, as people write it",
        ),
        Row(
            "coft embed, in the actors : bare forward",
            unit,
            in_actors,
            forward,
            in_actors / forward,
            at_least=0.9,
            note="one run, not in turns with its peer",
        ),
        Row(
            "coft embed, whole command : bare forward",
            unit,
            command,
            forward,
            command / forward,
            note=f"{run.start:.1f} of {run.wall:.1f} s start and end Prefect, Ray and the actor",
        ),
        Row(
            "coft embed, whole command : whole script",
            "s",
            run.wall,
            script_wall,
            script_wall / run.wall,
            note="the script lists nothing, checks nothing and cannot go on after a stop",
        ),
    ]


def _limit(bench: Bench, forward: float, decoding: float) -> tuple[float, str]:
    """Return the rate that neither side can pass: on a CPU both take their time from one pot."""
    if bench.device.type == "cuda":
        return min(forward, decoding), "the slower of decoding and forward"
    return 1 / (1 / forward + 1 / decoding), "decoding and forward, one after the other"
