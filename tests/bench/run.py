"""Measure speed and memory against named peers, in one run, and print one table of ratios.

`python -m tests.bench [--only NAME] [--quick] [--json FILE]`. Without `--only` all run but those
that want a GPU; `gpu.sh` runs these. A missed target is printed as such and is no error; a
benchmark that fails is one, after the others have run.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from infra import offline

offline.apply()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.bench import (  # noqa: E402  # what these load reads the switches
    adapt_run,
    bucket_listing,
    embed_memory,
    embedding,
    exports,
    orchestration,
    phase1_step,
    scale,
    serving,
    startup,
    text_memory,
    vit_embedding,
    vit_forward,
    vit_phase1,
)
from tests.bench.machine import machine  # noqa: E402
from tests.bench.measure import say  # noqa: E402
from tests.bench.pipeline import Bench  # noqa: E402
from tests.bench.rows import Row, render  # noqa: E402

BENCHMARKS: dict[str, Callable[[Bench], list[Row]]] = {
    "startup": startup.measure,
    "embedding": embedding.measure,
    "orchestration": orchestration.measure,
    "embed-memory": embed_memory.measure,
    "phase1": phase1_step.measure,
    "text-memory": text_memory.measure,
    "scale": scale.measure,
    "serving": serving.measure,
    "exports": exports.measure,
    "bucket-listing": bucket_listing.measure,
}
FOR_A_GPU: dict[str, Callable[[Bench], list[Row]]] = {
    "vit-forward": vit_forward.measure,
    "vit-embedding": vit_embedding.measure,
    "adapt": adapt_run.measure,
    "vit-phase1": vit_phase1.measure,
}
KNOWN = {**BENCHMARKS, **FOR_A_GPU}
NO_DEVICE = 2


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 if a benchmark failed, 2 if the device is not there."""
    asked = _parser().parse_args(words)
    if asked.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # here, and in all processes that are started
    if asked.device == "cuda" and not torch.cuda.is_available():
        say(f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) cannot use a GPU here.")
        return NO_DEVICE
    started = time.monotonic()
    rows: list[Row] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="coft-bench-") as folder:
        bench = Bench(Path(folder), asked.quick, images=asked.images, seconds=asked.seconds)
        facts = machine(bench.device)
        for name in asked.only or BENCHMARKS:
            say(f"{name}:")
            try:
                rows += KNOWN[name](bench)
            except Exception as error:  # noqa: BLE001  # the other benchmarks can still tell something
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"
    facts["seconds"] = f"{time.monotonic() - started:.0f}"
    if asked.quick:
        facts["sizes"] = "tiny (--quick): the numbers mean nothing"
    _tell(rows, facts, failed)
    if asked.json:
        found = {"machine": facts, "rows": [row.as_json() for row in rows], "failed": failed}
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=KNOWN, help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the benchmarks")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: a GPU where one is")
    parser.add_argument("--images", type=Path, help="Parquet of real images, with labels")
    parser.add_argument(
        "--seconds", type=float, help="the most that `adapt` may take; of each load of `serving`"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    return parser


def _tell(rows: Sequence[Row], facts: dict[str, str], failed: dict[str, str]) -> None:
    lines = [f"{name:<14} {value}" for name, value in facts.items()]
    lines += ["", render(rows)]
    lines += [f"FAILED {name}: {why}" for name, why in failed.items()]
    sys.stdout.write("\n".join(lines) + "\n")
