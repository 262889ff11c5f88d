"""`coft adapt` over a set like CIFAR-10: the whole run, and each of its stages."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.gpu_watch import Usage, watched
from tests.bench.limited import OutOfTimeError, last_line, run_limited
from tests.bench.pipeline import ROOT, Bench
from tests.bench.rows import Row
from tests.bench.vit import write_vit

AIM_SECONDS = 60.0  # on one H100 or H200
WHOLE = "coft adapt, whole run : aim"
MAIN = "from flows.cli import main; main()"
SPARE = 20.0  # seconds to end what was started, and to say what was found
QUICK = ["--phase1.epochs", "2", "--phase1.min-steps", "4"]


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark; a run that is stopped has one, with the reason."""
    pictures, what = bench.labelled
    summary = bench.folder / "adapt.json"
    log = bench.folder / "adapt.log"
    command = _command(bench, pictures, summary)
    limit = bench.seconds and bench.seconds - SPARE
    begun = time.monotonic()
    with watched(bench.folder / "gpu.csv") as usage:
        try:
            code = run_limited(command, log, limit=limit, cwd=ROOT, env=bench.environment())
        except OutOfTimeError as error:
            code, reason = None, str(error)
    wall = time.monotonic() - begun
    if code is None:
        return [Row(WHOLE, note=f"{what}: {reason}"), *_gpu(usage)]
    if code:
        raise RuntimeError(f"coft adapt exited with {code}: {last_line(log)}")
    return [*_rows(json.loads(summary.read_text()), wall, what), *_gpu(usage)]


def _command(bench: Bench, pictures: Path, summary: Path) -> list[str]:
    words = ["--images", str(pictures), "--labels", "column"]
    words += ["--workspace", str(bench.folder / "adapt"), "--summary", str(summary)]
    if bench.quick:
        words += ["--backbone", write_vit(bench.folder / "vit", quick=True), *QUICK]
    return [sys.executable, "-c", MAIN, "adapt", *words]


def _rows(result: dict[str, Any], wall: float, what: str) -> list[Row]:
    before, after = result["zero_shot_accuracy"], result["accuracy"]
    note = f"{result['num_images']:,} of {what}; accuracy {before:.3f}, adapted {after:.3f}"
    stages: dict[str, float] = result["seconds_by_stage"]
    rest = wall - sum(stages.values())
    each = stages.items()
    return [
        Row(WHOLE, "s", wall, AIM_SECONDS, wall / AIM_SECONDS, at_most=1.0, note=note),
        *(Row(f"  {name} : whole run", "s", took, wall, took / wall) for name, took in each),
        Row("  between the stages, start and end : whole run", "s", rest, wall, rest / wall),
    ]


def _gpu(usage: Usage) -> list[Row]:
    if not usage.percent:
        return []
    busy = Row("  GPU above 10 % : whole run", "share", usage.busy_share)
    return [busy, Row("  peak GPU memory of all processes", "GiB", usage.peak_gb)]
