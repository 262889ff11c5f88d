"""How much memory work takes."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

LOOKS = 0.02  # seconds between two looks at the memory


def memory_in_use() -> int:
    """Return the bytes that this process has in memory; those on a GPU are not among them."""
    return int(psutil.Process().memory_info().rss)


def release_memory() -> None:
    """Give back to the system what was freed, as far as the C library can: else nobody sees it.

    A process that has worked before keeps what it freed for later; work that fits in there would
    seem to need nothing.
    """
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc's
        trim(0)


@contextmanager
def peak_memory(before: int | None = None) -> Iterator[list[int]]:
    """Yield a list; its number is at the end by how many bytes the process had grown at most.

    Args:
        before: What it had in memory; by default, what it has now.
    """
    before = memory_in_use() if before is None else before
    done, peak = threading.Event(), [max(0, memory_in_use() - before)]

    def look() -> None:
        while not done.wait(LOOKS):
            peak[0] = max(peak[0], memory_in_use() - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
