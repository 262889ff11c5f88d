"""Many processes that make versions of one model its champion, all at the same moment."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.specs import GaveUp, InputError
from tasks.tracking import promotions
from tasks.tracking.champion import promote, rollback
from tasks.tracking.promotions import Overtaken
from tasks.tracking.store import Tracking, connect
from tasks.tracking.versions import CHAMPION, HEALTHY, PREVIOUS, aliases_of

ROOT = Path(__file__).parents[2]
NAME = "pets"


def register_versions(tracking: Tracking, count: int) -> None:
    """Register versions without files; the first one is the champion."""
    client = connect(tracking)
    client.create_registered_model(NAME)
    for _ in range(count):
        client.create_model_version(NAME, "s3://nowhere/model", tags={HEALTHY: "true"})
    promote(tracking, NAME, "1")


def race(tracking: Tracking, actions: list[str], timeout: float = 240) -> list[dict[str, Any]]:
    """Let a process for each action begin at one moment; return what each was told.

    Args:
        tracking: The store.
        actions: The number of a version to promote, or "back".
        timeout: Seconds.
    """
    command = [sys.executable, "-m", "tests.worlds.promoters", tracking.model_dump_json()]
    done = subprocess.run(
        [*command, *actions], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return told


def check(tracking: Tracking, told: list[dict[str, Any]]) -> tuple[int, int]:
    """Assert that the log is one story, that the aliases are its end, and that all were told so.

    Returns:
        How many have changed the champion, and how many were told that somebody else has.
    """
    log = promotions.read_log(tracking, NAME)
    assert [event.number for event in log.events] == list(range(1, len(log.events) + 1))
    for before, event in zip(log.events, log.events[1:], strict=False):
        if event.action == "promote":
            assert event.previous == before.champion
        else:
            assert (event.action, event.champion) == ("roll back", before.previous)
    aliases = aliases_of(tracking, NAME)
    assert (aliases[CHAMPION], aliases.get(PREVIOUS)) == (log.last.champion, log.last.previous)
    made = {event.champion for event in log.events}
    won = [one for one in told if "champion" in one]
    lost = [one for one in told if one.get("error") == Overtaken.__name__]
    late = [one for one in told if "no previous champion" in one.get("said", "")]
    assert len(won) + len(lost) + len(late) == len(told), told
    assert {one["champion"] for one in won} <= made
    assert all("has made version" in one["said"] for one in lost), lost
    assert all(one["action"] == "back" for one in late), late
    return len(won), len(lost)


def _act(tracking: Tracking, action: str, barrier: Any, results: Any) -> None:
    connect(tracking)
    barrier.wait(timeout=200)
    try:
        back = action == "back"
        model = rollback(tracking, NAME) if back else promote(tracking, NAME, action)
        told = {"action": action, "champion": model.version}
    except (GaveUp, InputError) as error:
        told = {"action": action, "error": type(error).__name__, "said": str(error)}
    except Exception as error:  # noqa: BLE001  # the test says what it was
        told = {"action": action, "error": type(error).__name__, "said": repr(error)[:500]}
    results.put(told)
    os._exit(0)  # without taking apart what the parent had imported


def _main() -> None:
    """Fork after MLflow was imported and before a store was opened: twenty imports take minutes."""
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    tracking, actions = Tracking.model_validate_json(sys.argv[1]), sys.argv[2:]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(len(actions)), context.SimpleQueue()
    processes = [
        context.Process(target=_act, args=(tracking, action, barrier, results))
        for action in actions
    ]
    for process in processes:
        process.start()
    told = [results.get() for _ in processes]
    for process in processes:
        process.join()
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
