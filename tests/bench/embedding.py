"""Embedding: against the bare forward loop, the limits of the machine, and a DataLoader script.

The bare loop runs the tower as open_clip gives it, batch norms and all, over pixels in memory, with
autocast where coft computes in bf16.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from clipcore import precision
from clipcore.backbone import VisualTower
from tasks.features.actor import EmbedActor
from tasks.images.cache_folder import CacheFolder
from tasks.images.pixel_cache import PixelCache
from tasks.images.pixels import batches
from tasks.images.quarantine import Quarantined
from tasks.pool.readers import read_images
from tests.bench.measure import interleaved, seconds
from tests.bench.pipeline import ROOT, Bench, EmbedRun, actor_here, sweep_all
from tests.bench.rows import Row

MOST_IN_MEMORY = 1024  # decoded images of the bare loop


@dataclass
class Contest:
    """The same images and the same tower, in several ways; each returns images a second."""

    actor: EmbedActor
    tower: VisualTower
    run: EmbedRun
    photos: Path
    pixels: list[Tensor]
    script_walls: list[float] = field(default_factory=list)

    @torch.inference_mode()
    def forward(self) -> float:
        """Run the tower alone over pixels in memory, at the actor's batch and precision."""

        def loop() -> None:
            for batch in self.pixels:
                with precision.mixed(self.tower.mean.device, training=False):
                    self.tower(batch).cpu()

        return sum(map(len, self.pixels)) / seconds(loop)

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
        command = [sys.executable, "-m", "tests.bench.dataloader_script", str(self.photos)]

        def run() -> None:
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
            answers.append(json.loads(done.stdout))

        answers: list[dict[str, float]] = []
        self.script_walls.append(seconds(run))
        return answers[0]["images"] / answers[0]["seconds"]


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
    photos, what = bench.photos
    run = bench.embed(photos)
    actor = actor_here(bench, bench.folder / "embeddings-here")
    tower = actor.job.towers[0].load(str(bench.device))
    contest = Contest(actor, tower, run, photos, _pixels(actor, run.parts))
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


def _pixels(actor: EmbedActor, parts: Sequence[str]) -> list[Tensor]:
    kept: list[Tensor] = []
    for part in parts:
        if sum(map(len, kept)) < MOST_IN_MEMORY:
            kept += decoded(actor, part)
    return kept


def _rows(bench: Bench, contest: Contest, speed: dict[str, float], what: str) -> list[Row]:
    run, forward, ours = contest.run, speed["forward"], speed["sweep"]
    in_actors = run.num_images / run.at_work("sweep")
    limit, which = _limit(bench, forward, speed["decoding"])
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
            note=f"{what}; decoding alone makes {speed['decoding']:,.1f} images/s",
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
