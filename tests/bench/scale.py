"""Millions of made-up images through listing, anti-join, labels and cross-filter, and their slope.

The sizes are those of `COFT_BENCH_IMAGES`, split by commas; a million takes minutes. Each is
measured as a whole, and then with 100 new objects among those that are known.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.measure import say
from tests.bench.pipeline import ROOT, Bench
from tests.bench.rows import Row
from tests.bench.scale_step import STEPS

SIZES = "20000,100000"
NEW = 100
MEASURED = [name for name in STEPS if name != "know"]


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    asked = "2000,4000" if bench.quick else os.environ.get("COFT_BENCH_IMAGES", SIZES)
    sizes = [int(size) for size in asked.split(",")]
    found = {size: _whole(bench.folder / f"scale-{size}", size) for size in sizes}
    rows = [row for size, steps in found.items() for row in _rows(size, steps)]
    if len(sizes) > 1:
        rows += _slopes(found, sizes[0], sizes[-1])
    return rows


def _whole(workspace: Path, count: int) -> dict[str, dict[str, Any]]:
    """Run all steps over images that are all new to the towers, then add new objects to them."""
    found = {}
    for name in STEPS:
        say(f"  {count:,} images: {name}")
        found[name] = _step(workspace, count, 0, name)
    for name in ("list", "embed"):
        say(f"  {count:,} images and {NEW} new objects: {name}")
        found[f"{name}, {NEW} new"] = _step(workspace, count, NEW, name)
    disk = sum(path.stat().st_size for path in workspace.rglob("*") if path.is_file())
    found["know"]["disk_mb"] = disk / 2**20
    shutil.rmtree(workspace)
    return found


def _step(workspace: Path, count: int, new: int, name: str) -> dict[str, Any]:
    words = [str(workspace), str(count), str(new), name]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scale_step", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} exited with {done.returncode}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    say(f"    {measured}")
    return measured


def _rows(count: int, steps: dict[str, dict[str, Any]]) -> list[Row]:
    return [
        Row(
            f"{name}, {count:,} images",
            "s",
            step["seconds"],
            note=f"{step['cpu_seconds']:.1f} s of processor, peak {step['peak_mb']:,.0f} MB",
        )
        for name, step in steps.items()
        if name != "know"
    ] + [Row(f"workspace, {count:,} images", "MB", steps["know"]["disk_mb"])]


def _slopes(found: dict[int, dict[str, dict[str, Any]]], few: int, many: int) -> list[Row]:
    """Return time for each image, and memory, of the largest size against the smallest."""
    rows = []
    for name in found[few]:
        if name == "know":
            continue
        less, more = found[few][name], found[many][name]
        times = (more["cpu_seconds"] / many * 1e6, less["cpu_seconds"] / few * 1e6)
        rows.append(
            Row(f"{name}, an image of {many:,} : of {few:,}", "us", *times, times[0] / times[1])
        )
        ratio = more["peak_mb"] / less["peak_mb"]
        what = f"memory of {name}, {many:,} : {few:,} images"
        rows.append(Row(what, "MB", more["peak_mb"], less["peak_mb"], ratio))
    return rows
