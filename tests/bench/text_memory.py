"""Peak memory of prompt tuning at 1,000 classes, in chunks of the default budget and without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from clipcore.prompts import MEMORY_ON_CPU_MB
from tests.bench.measure import say
from tests.bench.pipeline import ROOT, Bench
from tests.bench.rows import Row

BUDGET_MB = MEMORY_ON_CPU_MB
NO_BUDGET = 10**9
SHARE_TO_DARE = 0.7  # of the free memory; beyond, the peak is extrapolated


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    classes = 100 if bench.quick else 1000
    budget = 16 if bench.quick else BUDGET_MB
    ours = _probe(bench, classes, budget)
    peer, how = _without_chunks(bench, classes)
    name = f"memory of prompt tuning, {classes:,} classes"
    step = ours["step_mb"]
    return [
        Row(
            f"{name} : without chunks",
            "MB",
            step,
            peer,
            step / peer,
            at_most=0.5,
            note=f"{how}; beyond the model, whole process {ours['process_mb']:,.0f} MB with chunks",
        ),
        Row(
            f"{name} : budget",
            "MB",
            step,
            budget,
            step / budget,
            at_most=1.0,
            note=f"one step took {ours['seconds']:.1f} s",
        ),
    ]


def _without_chunks(bench: Bench, classes: int) -> tuple[float, str]:
    """Return the peak without chunks, and how it was found.

    From a tenth and a fifth of the classes, on a straight line, where all would not fit.
    """
    tenth, fifth = (_probe(bench, classes // part, NO_BUDGET)["step_mb"] for part in (10, 5))
    expected = tenth + (fifth - tenth) * (classes - classes // 10) / (classes // 5 - classes // 10)
    if expected < SHARE_TO_DARE * _free_mb(bench):
        return _probe(bench, classes, NO_BUDGET)["step_mb"], "both measured"
    parts = f"{classes // 10:,} and {classes // 5:,}"
    return expected, f"without chunks it would not fit here; extrapolated from {parts} classes"


def _probe(bench: Bench, classes: int, budget_mb: int) -> dict[str, float]:
    words = [str(classes), str(budget_mb), *(["--quick"] if bench.quick else [])]
    command = [sys.executable, "-m", "tests.bench.text_memory_probe", *words]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    budget = "no budget" if budget_mb == NO_BUDGET else f"{budget_mb:,} MB"
    say(f"  {classes:,} classes, {budget}: {found['step_mb']:,.0f} MB, {found['seconds']:.1f} s")
    return found


def _free_mb(bench: Bench) -> float:
    if bench.device.type == "cuda":
        return torch.cuda.mem_get_info()[0] / 2**20
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20 / 2
