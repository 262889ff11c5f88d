"""All benchmarks that want a GPU, in one call and under eight minutes: one table, also as JSON.

Each part runs in a process of its own and has so many seconds. What fails or takes longer leaves a
row with the reason, and the others go on. `gpu.sh` starts this with the right Python.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.limited import OutOfTimeError, last_line, run_limited
from tests.bench.rows import Row, render

ROOT = Path(__file__).parents[2]
SECONDS = {"vit-forward": 60, "vit-embedding": 180, "adapt": 150, "vit-phase1": 70}
CPU_FACTOR = 4  # of those seconds, without a GPU
NO_GPU = 2


def main(words: Sequence[str] | None = None) -> int:
    """Run all parts; return 1 if one left no numbers, 2 if there is no GPU."""
    asked = _parser().parse_args(words)
    if asked.device == "cuda" and not has_gpu():
        sys.stderr.write(
            "There is no GPU here: neither /dev/nvidia0 nor an nvidia-smi that lists one. "
            "`--device cpu --quick` tries the script on a CPU.\n"
        )
        return NO_GPU
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = list(_parts(asked))
    rows = [row for part in found for row in part["rows"]]
    facts: dict[str, str] = next((part["machine"] for part in found if part["machine"]), {})
    facts["seconds"] = f"{time.monotonic() - begun:.0f} for all parts"
    sys.stdout.write(_table(facts, rows) + "\n")
    if asked.json:
        table = {"machine": facts, "rows": [row.as_json() for row in rows]}
        asked.json.write_text(json.dumps(table, indent=1) + "\n")
    return 1 if any(row.ours is None for row in rows) else 0


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU, without loading PyTorch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if Path("/dev/nvidia0").exists():
        return True
    program = shutil.which("nvidia-smi")
    listed = program and subprocess.run([program, "-L"], capture_output=True, check=False)
    return bool(listed and listed.stdout.startswith(b"GPU"))


def _parts(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what each part found; after an interrupt, that the others did not run."""
    stopped = False
    for name in SECONDS:
        try:
            yield _none(name, "not run: stopped before") if stopped else _part(name, asked)
        except KeyboardInterrupt:
            stopped = True
            yield _none(name, "stopped from outside")


def _none(name: str, why: str) -> dict[str, Any]:
    return {"machine": {}, "rows": [Row(name, note=why)]}


def _part(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the rows of one part, or a row that says why there are none."""
    limit = SECONDS[name] * (CPU_FACTOR if asked.device == "cpu" else 1)
    sys.stderr.write(f"{name}: at most {limit} s\n")
    sys.stderr.flush()
    with tempfile.TemporaryDirectory(prefix="coft-gpu-") as folder:
        log, answer = Path(folder) / "log", Path(folder) / "answer.json"
        command = [*(sys.executable, "-m", "tests.bench", "--only", name)]
        command += ["--device", asked.device, "--json", str(answer), "--seconds", str(limit)]
        command += ["--quick"] if asked.quick else []
        command += ["--images", str(asked.images.absolute())] if asked.images else []
        try:
            run_limited(command, log, limit=limit, cwd=ROOT, env=_environment(folder))
            found = json.loads(answer.read_text())
        except (OutOfTimeError, OSError, ValueError) as error:
            late = isinstance(error, OutOfTimeError)
            return _none(name, str(error) if late else last_line(log))
    rows = [Row.from_json(row) for row in found["rows"]]
    rows += [Row(failed, note=why) for failed, why in found["failed"].items()]
    return {"machine": found["machine"], "rows": rows}


def _environment(folder: str) -> dict[str, str]:
    """Return this environment, with the project on the path and temporary files in `folder`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": folder}


def _table(facts: dict[str, str], rows: Sequence[Row]) -> str:
    return "\n".join([*(f"{name:<14} {value}" for name, value in facts.items()), "", render(rows)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--images", type=Path, help="Parquet of CIFAR-10; default: made pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
