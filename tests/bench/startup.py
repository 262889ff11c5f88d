"""Start-up: what a person waits for help, a refusal, an answer, and until work begins."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tasks.tracking.store import connect, tracking_for
from tests.bench.measure import say
from tests.bench.pipeline import ROOT, Bench
from tests.bench.rows import Row

HELP = {"--help": 1.0, "adapt --help": 1.5, "active start --help": 1.5, "models --help": 1.5}
REFUSED = (
    "adapt --images /nowhere --classes cat,dog",
    "adapt --images PHOTOS --classes cat,dog --backbone ViT-B-61/openai",
    "adapt --images PHOTOS --classes cat,dog --register a/b",
    "predict --images PHOTOS --model models:/nobody@champion",
    "active start --images PHOTOS --classes cat,dog --budget 9 --learner.kind vpt",
    "active next --name nobody",
    "models promote nobody",
)
READING = ("active status", "models list", "query FROM_images", "doctor")
REFUSAL, ANSWER, WORK = 3.0, 3.0, 15.0  # seconds at most, on two quiet cores
TIMES = 3


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark; what stands for the peer is the aim."""
    run = bench.small_run(128)
    photos = bench.folder / "small-128"
    _fill(bench, run.workspace, photos)
    timed = {
        words: _time(bench, words.replace("PHOTOS", str(photos)), run.workspace, code=code)
        for code, group in ((0, (*HELP, *READING)), (2, REFUSED))
        for words in group
    }
    slowest = max(REFUSED, key=lambda words: timed[words][0])
    return [
        _row("command to the first embedded images", (run.first_images, None), WORK),
        _row("last line to the end of the process", (run.leaving, None), 1.0),
        *(_row(f"coft {words}", timed[words], aim) for words, aim in HELP.items()),
        _row(f"slowest of {len(REFUSED)} refusals: coft {slowest}", timed[slowest], REFUSAL),
        *(_row(f"coft {words}", timed[words], ANSWER) for words in READING),
    ]


def _fill(bench: Bench, workspace: Path, photos: Path) -> None:
    """Make what is read: rounds without a question yet, and a model without a version."""
    words = f"active start --images {photos} --classes cat,dog --budget 9"
    _run(bench, words.split(), workspace, code=0)
    connect(tracking_for(str(workspace))).create_registered_model("photos")


def _time(bench: Bench, words: str, workspace: Path, *, code: int) -> tuple[float, float]:
    """Return the median seconds of a command, and of the processor time that it takes."""
    split = [word.replace("_", " ") for word in words.split()]
    runs = [_run(bench, split, workspace, code=code) for _ in range(TIMES)]
    wall, processor = (statistics.median(column) for column in zip(*runs, strict=True))
    say(f"  coft {words}: {wall:.2f} s, {processor:.2f} s of a processor")
    return wall, processor


def _run(bench: Bench, words: Sequence[str], workspace: Path, *, code: int) -> tuple[float, float]:
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *words],
        cwd=ROOT,
        env={**bench.environment(), "COFT_WORKSPACE": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode != code:
        raise RuntimeError(f"coft {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    processor = after.children_user + after.children_system
    return wall, processor - before.children_user - before.children_system


def _row(name: str, measured: tuple[float, float | None], aim: float) -> Row:
    wall, processor = measured
    note = "" if processor is None else f"{processor:.2f} s of a processor"
    return Row(name, "s", wall, aim, wall / aim, at_most=1.0, note=note)
