"""Which steps an equal run has finished, as it noted itself."""

from pathlib import Path
from uuid import uuid4

import pytest

from tasks.refs import ModelRef, Ref
from tasks.storage import finished_runs
from tasks.storage.files import names_in, remove
from tasks.storage.finished_runs import note_steps, pass_through, record_finished, steps_so_far
from tests.worlds.stages import stage

DIGEST = "feed"


def begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another flow run be on; `test_commands` asks Prefect for it."""
    run = uuid4()
    monkeypatch.setattr(finished_runs, "_run_id", lambda: run)


def made(workspace: Path, name: str) -> Ref:
    return Ref(uri=stage(workspace / name, []), digest=name)


def test_a_killed_run_tells_the_next_one_how_far_it_was(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(workspace)
    begin(monkeypatch)
    note_steps(place, DIGEST)
    pass_through("images", made(workspace, "pool/1"))
    pass_through("backbone", None)
    pass_through("peers", (made(workspace, "peers/1"), made(workspace, "peers/2")))
    assert list(steps_so_far(place, DIGEST)) == ["images", "peers"]
    assert list(steps_so_far(place, "other")) == []
    begin(monkeypatch)
    note_steps(place, DIGEST)
    pass_through("images", made(workspace, "pool/1"))
    assert list(steps_so_far(place, DIGEST)) == ["images", "peers"], "none is forgotten"
    record_finished(place)
    remove(str(workspace / "peers" / "2"))
    assert list(steps_so_far(place, DIGEST)) == ["images"], "what was removed is computed again"


def test_what_is_elsewhere_is_no_finished_step(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch)
    note_steps(str(workspace), DIGEST)
    pass_through("find model", ModelRef(uri=str(tmp_path / "model"), digest="1"))
    assert list(steps_so_far(str(workspace), DIGEST)) == []


def test_a_run_without_a_plan_notes_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch)
    pass_through("images", made(workspace, "pool/1"))
    record_finished(str(workspace))
    assert names_in(str(workspace)) == {"pool", "finished"}
