"""Room that threads share: never more than the whole, and never less than could be."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest

from clipcore.room import Room

SIZE = 10
WAIT = 60  # seconds until a test that hangs fails


def most_taken(parts: list[int]) -> list[list[int]]:
    """Return which parts were in a room together, each time that one came in."""
    room, lock = Room(SIZE), Lock()
    inside: list[int] = []
    seen: list[list[int]] = []
    start = Barrier(len(parts))

    def take(size: int) -> None:
        start.wait(WAIT)
        for _ in range(20):
            with room.part(size):
                with lock:
                    inside.append(size)
                    seen.append(list(inside))
                with lock:
                    inside.remove(size)

    with ThreadPoolExecutor(len(parts)) as threads:
        list(threads.map(take, parts))
    return seen


@pytest.mark.parametrize("parts", [[6] * 6, [4, 4, 4, 9, 1, 2], [25, 3, 10, 7, 0, 11]])
def test_parts_are_never_more_than_the_whole_unless_alone(parts: list[int]) -> None:
    seen = most_taken(parts)
    assert len(seen) == 20 * len(parts)
    assert all(sum(inside) <= SIZE or len(inside) == 1 for inside in seen), seen


@pytest.mark.parametrize("parts", [[5, 5], [3, 3, 4], [10, 0]])
def test_what_fits_is_taken_at_once(parts: list[int]) -> None:
    room, together = Room(SIZE), Barrier(len(parts))

    def take(size: int) -> int:
        with room.part(size):
            return together.wait(WAIT)

    with ThreadPoolExecutor(len(parts)) as threads:
        assert sorted(threads.map(take, parts)) == list(range(len(parts)))


def test_work_that_fails_gives_its_part_back() -> None:
    room = Room(SIZE)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.part(SIZE):
            _ = 1 / 0
    with room.part(SIZE):
        pass
