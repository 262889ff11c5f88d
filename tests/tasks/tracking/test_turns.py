"""One run at a time in a workspace: who waits, who ends, and who has died."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.specs import GaveUp, RuntimeSpec
from tasks.tracking import turns
from tasks.tracking.turns import check_turn, in_turn, is_left, repair_turn, turn, who_is_at_work

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from tasks.specs import RuntimeSpec
from tasks.tracking.turns import turn

with turn(RuntimeSpec(workspace=sys.argv[1])):
    print("has it", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def here(tmp_path: Path) -> RuntimeSpec:
    return RuntimeSpec(workspace=str(tmp_path / "workspace"), on_busy="end")


@pytest.fixture
def holder(here: RuntimeSpec) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, here.workspace]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


def test_who_is_not_to_wait_hears_who_is_at_work(
    here: RuntimeSpec, holder: subprocess.Popen[str]
) -> None:
    for refuse in (lambda: check_turn(here), lambda: turn(here).__enter__()):
        with pytest.raises(
            GaveUp, match=rf"process {holder.pid} on .* is at work in .*on-busy wait"
        ):
            refuse()
    assert not is_left(here.workspace)
    assert repair_turn(here.workspace) is None
    check_turn(here.model_copy(update={"on_busy": "wait"}))


def test_who_waits_says_so_once_and_goes_on_when_the_other_has_ended(
    here: RuntimeSpec,
    holder: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(turns, "_EVERY", 0.05)
    waiting = here.model_copy(update={"on_busy": "wait"})
    assert holder.stdin
    threading.Timer(0.5, holder.stdin.close).start()
    with turn(waiting):
        who = who_is_at_work(here.workspace)
        assert who is not None
        assert who.process == os.getpid()
    assert capsys.readouterr().err.count("Waiting: ") == 1
    assert who_is_at_work(here.workspace) is None


def test_a_flow_in_a_flow_has_its_turn(here: RuntimeSpec) -> None:
    @in_turn
    def inner(runtime: RuntimeSpec) -> str:
        return "done"

    @in_turn
    def outer(runtime: RuntimeSpec, times: int = 1) -> list[str]:
        return [inner(runtime) for _ in range(times)]

    assert outer(here, times=2) == ["done", "done"]
    with pytest.raises(ZeroDivisionError), turn(here):
        _ = 1 / 0
    assert who_is_at_work(here.workspace) is None
    check_turn(here)


def test_what_a_dead_process_began_is_ended_by_the_next(
    here: RuntimeSpec, holder: subprocess.Popen[str], prefect_session: str
) -> None:
    from prefect import flow, get_client
    from prefect.states import Running

    @flow(name="killed")
    def killed() -> None:
        pass

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(killed, state=Running()).id
        note = Path(here.workspace) / "running" / "workspace.json"
        who = who_is_at_work(here.workspace)
        assert who is not None
        note.write_text(who.model_copy(update={"flow_runs": (run,)}).model_dump_json())
        holder.kill()
        holder.wait()
        assert is_left(here.workspace)
        with turn(here):
            state = client.read_flow_run(run).state
        assert state is not None
        assert state.name == "Crashed"
        assert f"process {holder.pid}" in str(state.message)
    assert not is_left(here.workspace)
