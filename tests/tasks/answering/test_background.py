"""A command beside the page: it ends when it is asked to, and says why when it fails."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import interrupts
from tasks.answering.background import PATIENCE, Background
from tests.worlds.pages import Visitor, drawn_questions, write_predictions
from tests.worlds.served import free_port

pytestmark = pytest.mark.slow


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    command = Background(["active", "next", "--name", "absent", "--workspace", str(tmp_path)])
    assert not command.runs()
    assert command.failure() is None
    command.start()
    command.start()  # one at a time
    until(lambda: not command.runs())
    assert "No rounds named 'absent'" in str(command.failure())
    assert not command.stop()


def test_a_command_ends_when_it_is_asked_to_also_if_the_server_ignores_signals(
    tmp_path: Path,
) -> None:
    write_predictions(tmp_path / "predict.parquet", drawn_questions(tmp_path, 2, ("cat", "dog")))
    port, workspace = free_port(), tmp_path / "workspace"
    words = ["label", "--from", str(tmp_path / "predict.parquet"), "--no-browser"]
    command = Background([*words, "--port", str(port), "--workspace", str(workspace)])
    with interrupts.left_to_a_server():
        command.start()
    with Visitor(port, workspace / "asked" / "below"):
        assert command.runs()
    started = time.monotonic()
    assert command.stop()
    assert time.monotonic() - started < PATIENCE / 2
    until(lambda: "No answers yet; the same command goes on." in command.lines())
    assert command.failure() is None


def test_what_was_not_started_has_nothing_to_say() -> None:
    command = Background(["doctor"])
    assert command.lines() == []
    assert not command.stop()
