"""Memory that work took is seen also where it was given back."""

import numpy as np

from tasks.compute.memory import memory_at_first, memory_in_use, peak_memory

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


def test_what_a_process_keeps_counts_for_whoever_comes_next() -> None:
    memory_at_first.cache_clear()
    first = memory_at_first()
    held = np.ones(SIZE, np.uint8)
    assert memory_at_first() == first < memory_in_use() - SIZE / 2
    assert held.any()
