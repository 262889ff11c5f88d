"""Time and memory, measured alike for ours and for the peer."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def say(text: str) -> None:
    """Tell how far the benchmarks are, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes, until the device has finished too."""
    _wait_for_device()
    started = time.perf_counter()
    work()
    _wait_for_device()
    return time.perf_counter() - started


def interleaved(
    works: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: bool = True
) -> dict[str, float]:
    """Return the median of what each of `works` measures, taking turns, after one unmeasured turn.

    Turns, because a machine is never equally busy for long.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-1 if warm_up else 0, rounds):
        for name, work in works.items():
            value = work()
            say(f"  {name}: {value:.3f}{' (warm-up)' if turn < 0 else ''}")
            if turn >= 0:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def rss_mb() -> float:
    """Return the memory that this process has resident now."""
    return _status_mb("VmRSS") or peak_rss_mb()


def peak_rss_mb() -> float:
    """Return the most memory that this process had resident.

    From /proc where there is one: `ru_maxrss` of a child begins at what its parent had.
    """
    found = _status_mb("VmHWM")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def forget_peak() -> None:
    """Let `peak_rss_mb` begin again from what is resident now, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _status_mb(field: str) -> float | None:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 2**10
    return None
