"""Memory that work took is seen also where it was given back."""

import sys
import time

import numpy as np
import pytest

from tasks.compute.memory import memory_in_use, peak_memory, release_memory

SIZE = 64 * 2**20


def test_what_was_given_back_counts() -> None:
    with peak_memory() as peak:
        for _ in range(3):
            np.ones(SIZE, np.uint8).sum()
    assert peak[0] > SIZE / 2


def test_growth_is_counted_from_where_it_began() -> None:
    before = memory_in_use()
    held = np.ones(SIZE, np.uint8)
    with peak_memory(before) as peak:
        pass
    assert peak[0] > SIZE / 2
    assert held.any()


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries keep what was freed")
def test_what_was_freed_before_hides_nothing() -> None:
    release_memory()
    for _ in range(2):
        before = memory_in_use()
        with peak_memory(before) as peak:
            held = [bytes([1]) * 60_000 for _ in range(1000)]
            time.sleep(0.1)
        assert peak[0] > 0.8 * sum(map(len, held))
        del held
        release_memory()
        assert memory_in_use() - before < 10_000_000
