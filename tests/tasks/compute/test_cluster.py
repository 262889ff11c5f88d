"""Work on a real Ray: bounded, in any order, with the errors of the workers as they are."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from tasks.compute.cluster import IN_FLIGHT_PER_ACTOR, actors, run_on_actors, run_tasks
from tasks.compute.placement import Share
from tasks.specs import InputError, RuntimeSpec

NUM_CPUS = 2  # of the session's Ray
NUM_ITEMS = 12
pytestmark = pytest.mark.usefixtures("ray_session")

# Functions and classes that workers run stand inside functions: so they travel by value, and no
# worker imports this module.


class Flight:
    """Counts the items that were handed out and have not come back."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def items(self, count: int) -> list[Any]:
        return [Handed((number,), self) for number in range(count)]

    def take_off(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)


class Handed(tuple[int]):
    """An argument tuple that tells its flight when it is unpacked into a call."""

    flight: Flight

    def __new__(cls, values: tuple[int], flight: Flight) -> "Handed":
        item = super().__new__(cls, values)
        item.flight = flight
        return item

    def __iter__(self) -> Iterator[int]:
        self.flight.take_off()
        return super().__iter__()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def one_core_each(number: int) -> Share:
    return Share(num_actors=number, num_cpus=1, num_gpus=0)


def squares(items: list[Any]) -> Iterator[tuple[int, int]]:
    return run_tasks(lambda number: number**2, items, runtime=RuntimeSpec())


# --- tasks ----------------------------------------------------------------------------------------


def test_each_item_is_run_once_and_comes_back_with_its_position() -> None:
    assert sorted(squares([(7,), (5,), (6,)])) == [(0, 49), (1, 25), (2, 36)]
    assert list(squares([])) == []


def test_at_most_two_items_a_core_are_in_flight() -> None:
    flight = Flight()
    results = []
    for position, value in squares(flight.items(NUM_ITEMS)):
        flight.now -= 1
        results.append((position, value))
    assert sorted(results) == [(number, number**2) for number in range(NUM_ITEMS)]
    assert flight.most == 2 * NUM_CPUS


def test_a_result_is_handed_on_while_an_earlier_item_is_at_work(tmp_path: Path) -> None:
    def first_waits(number: int) -> int:
        if number == 0:
            wait_for(tmp_path / "seen")
        return number

    order = []
    for position, _ in run_tasks(first_waits, [(0,), (1,)], runtime=RuntimeSpec()):
        order.append(position)
        (tmp_path / "seen").touch()
    assert order == [1, 0]


def test_what_a_worker_raises_reaches_the_caller() -> None:
    def refuse(number: int) -> None:
        raise InputError(f"no class {number}")

    with pytest.raises(InputError, match="no class 3") as raised:
        list(run_tasks(refuse, [(3,)], runtime=RuntimeSpec()))
    assert type(raised.value) is InputError


def test_the_item_of_a_lost_worker_is_run_again(tmp_path: Path) -> None:
    def dies_once(folder: str) -> str:
        mark = Path(folder) / "died"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    assert list(run_tasks(dies_once, [(str(tmp_path),)], runtime=RuntimeSpec())) == [(0, "alive")]
    assert (tmp_path / "died").exists()


# --- actors ---------------------------------------------------------------------------------------


def make_worker() -> type:
    class Worker:
        """Tells who it is; may refuse, or die once."""

        def __init__(self, name: str) -> None:
            self.name = name

        def name_of(self, number: int) -> tuple[str, int]:
            return self.name, number

        def meet(self, folder: str, number: int) -> str:
            """Return when another actor is here at the same time."""
            (Path(folder) / f"{number}").touch()
            wait_for(Path(folder) / f"{1 - number}")
            return self.name

        def refuse(self, number: int) -> None:
            raise InputError(f"no image {number}")

        def die_once(self, folder: str) -> str:
            mark = Path(folder) / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return self.name

    return Worker


def test_each_actor_has_at_most_two_items() -> None:
    flight, results = Flight(), []
    with actors(make_worker(), [("one",)], one_core_each(1)) as started:
        for position, (name, number) in run_on_actors(started, "name_of", flight.items(NUM_ITEMS)):
            flight.now -= 1
            results.append((position, name, number))
    assert sorted(results) == [(number, "one", number) for number in range(NUM_ITEMS)]
    assert flight.most == IN_FLIGHT_PER_ACTOR


def test_actors_work_side_by_side(tmp_path: Path) -> None:
    with actors(make_worker(), [("one",), ("two",)], one_core_each(2)) as started:
        meetings = [(str(tmp_path), 0), (str(tmp_path), 1)]
        results = dict(run_on_actors(started, "meet", meetings))
    assert results == {0: "one", 1: "two"}


def test_what_an_actor_raises_reaches_the_caller() -> None:
    with (
        pytest.raises(InputError, match="no image 4"),
        actors(make_worker(), [("one",)], one_core_each(1)) as started,
    ):
        list(run_on_actors(started, "refuse", [(4,)]))


def test_an_actor_that_died_is_made_again_and_asked_again(tmp_path: Path) -> None:
    with actors(make_worker(), [("one",)], one_core_each(1)) as started:
        assert list(run_on_actors(started, "die_once", [(str(tmp_path),)])) == [(0, "one")]
    assert (tmp_path / "died").exists()


def test_actors_end_with_their_block() -> None:
    with actors(make_worker(), [("one",)], one_core_each(1)) as started:
        assert ray.get(started[0].name_of.remote(1)) == ("one", 1)
    with pytest.raises(RayActorError):
        ray.get(started[0].name_of.remote(1))
