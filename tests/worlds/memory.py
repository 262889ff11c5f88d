"""How much memory Python holds, for the time of a block."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def traced_memory() -> Iterator[Callable[[], tuple[int, int]]]:
    """Yield a function that returns (bytes held now, the most since the block began).

    Tracing ends with the block, also when a test fails: all that runs meanwhile is slow.
    """
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
