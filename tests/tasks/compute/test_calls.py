"""Calls on a real Ray: bounded, in any order, with the errors of the workers as they are."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.compute.calls import IN_FLIGHT, Chain, run_chains, run_on_held, run_tasks
from tasks.compute.worker import Call, Held
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


def squares(items: list[Any]) -> Iterator[tuple[int, int]]:
    return run_tasks(lambda number: number**2, items, runtime=RuntimeSpec())


# --- tasks ----------------------------------------------------------------------------------------


def test_each_item_is_run_once_and_comes_back_with_its_position() -> None:
    assert sorted(squares([(7,), (5,), (6,)])) == [(0, 49), (1, 25), (2, 36)]
    assert list(squares([])) == []


def test_at_most_two_items_a_worker_are_in_flight(tmp_path: Path) -> None:
    def meet(folder: str, number: int) -> None:
        (Path(folder) / f"{number}").touch()
        wait_for(Path(folder) / f"{1 - number}")

    # Both workers are there: while one is on its way, the other has one item at a time.
    list(run_tasks(meet, [(str(tmp_path), n) for n in range(NUM_CPUS)], runtime=RuntimeSpec()))
    flight = Flight()
    results = []
    for position, value in squares(flight.items(NUM_ITEMS)):
        flight.now -= 1
        results.append((position, value))
    assert sorted(results) == [(number, number**2) for number in range(NUM_ITEMS)]
    assert flight.most == IN_FLIGHT * NUM_CPUS


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


# --- what a worker holds --------------------------------------------------------------------------


def make_holder() -> type:
    class Holder:
        """Tells how often it was made; may refuse, or die once."""

        def __init__(self, folder: str, device: str) -> None:
            assert device == "cpu"
            self.folder = Path(folder)
            with (self.folder / "made").open("a") as log:
                log.write(f"{os.getpid()}\n")

        def who(self, number: int) -> tuple[int, int]:
            return os.getpid(), number

        def meet(self, number: int) -> int:
            """Return when another worker is here at the same time."""
            (self.folder / f"{number}").touch()
            wait_for(self.folder / f"{1 - number}")
            return os.getpid()

        def refuse(self, number: int) -> None:
            raise InputError(f"no image {number}")

        def die_once(self) -> str:
            mark = self.folder / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return "alive"

    return Holder


def made(folder: Path) -> list[str]:
    return (folder / "made").read_text().split()


def test_each_worker_makes_what_it_holds_once(tmp_path: Path) -> None:
    held = Held(make_holder(), (str(tmp_path),))
    flight, pids, numbers = Flight(), set(), []
    for _, (pid, number) in run_on_held(
        held, "who", flight.items(NUM_ITEMS), runtime=RuntimeSpec()
    ):
        flight.now -= 1
        pids.add(str(pid))
        numbers.append(number)
    assert sorted(numbers) == list(range(NUM_ITEMS))
    assert flight.most <= IN_FLIGHT * NUM_CPUS
    assert len(made(tmp_path)) == len(set(made(tmp_path))) <= NUM_CPUS
    assert pids <= set(made(tmp_path))


def test_workers_stay_from_stage_to_stage(tmp_path: Path) -> None:
    everyone: set[int] = set()
    for stage in ("one", "two"):
        folder = tmp_path / stage
        folder.mkdir()
        held = Held(make_holder(), (str(folder),))
        everyone |= {
            pid for _, pid in run_on_held(held, "meet", [(0,), (1,)], runtime=RuntimeSpec())
        }
    assert len(everyone) == NUM_CPUS, "two stages side by side, in the same two processes"


def test_what_it_raises_reaches_the_caller(tmp_path: Path) -> None:
    held = Held(make_holder(), (str(tmp_path),))
    with pytest.raises(InputError, match="no image 4"):
        list(run_on_held(held, "refuse", [(4,)], runtime=RuntimeSpec()))


def test_a_worker_that_died_is_replaced_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = Held(make_holder(), (str(tmp_path),))
    answers = list(run_on_held(held, "die_once", [()], runtime=RuntimeSpec()))
    assert answers == [(0, "alive")]
    assert len(made(tmp_path)) == 2
    assert "has died; another one goes on with its work" in capsys.readouterr().err


def test_the_threads_that_a_call_sets_end_with_it() -> None:
    def threads(number: int) -> int:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(number)
        return before

    for _ in range(2):
        items = [(3,)] * 4
        assert {count for _, count in run_tasks(threads, items, runtime=RuntimeSpec())} == {1}


def test_what_workers_say_reaches_the_person_once(capsys: pytest.CaptureFixture[str]) -> None:
    def speak(number: int) -> int:
        from tasks.progress import say

        say("The disk is nearly full.")
        return number

    assert len(list(run_tasks(speak, [(n,) for n in range(4)], runtime=RuntimeSpec()))) == 4
    assert capsys.readouterr().err.count("The disk is nearly full.") == 1


# --- chains ---------------------------------------------------------------------------------------


def test_a_chain_stays_with_its_worker(tmp_path: Path) -> None:
    def pids(held: Held) -> Chain:
        seen = []
        for number in range(3):
            pid, _ = yield Call("who", (number,), held)
            seen.append(pid)
        return seen

    helds = [Held(make_holder(), (str(tmp_path),)) for _ in range(4)]
    results = dict(run_chains(map(pids, helds), RuntimeSpec()))
    assert sorted(results) == [0, 1, 2, 3]
    assert all(len(set(seen)) == 1 for seen in results.values())
    assert len(made(tmp_path)) == 4, "no worker goes back and forth between two chains"


def test_a_caller_that_stops_leaves_no_work_behind(tmp_path: Path) -> None:
    def wait_long(folder: str, number: int) -> int:
        if number:
            wait_for(Path(folder) / "never")
        return number

    results = run_tasks(wait_long, [(str(tmp_path), n) for n in (0, 1)], runtime=RuntimeSpec())
    assert next(results) == (0, 0)
    results.close()
    assert sorted(squares([(n,) for n in range(4)])) == [(n, n**2) for n in range(4)]
