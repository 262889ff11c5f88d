"""What a person sees of a stage: lines in a file, a bar on a terminal, an artifact in Prefect."""

import contextlib
import os
import re
import sys
import time

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType

from tasks import progress as module
from tasks.progress import progress, say


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == "", "standard output belongs to results"
    return captured.err.splitlines()


def read_all(terminal: int) -> str:
    """Return all that was written to a terminal whose other end is closed."""
    chunks = []
    with contextlib.suppress(OSError):  # that is how Linux says that there is no more
        while chunk := os.read(terminal, 2**16):
            chunks.append(chunk)
    os.close(terminal)
    return b"".join(chunks).decode()


def test_a_fast_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Embed", 12_000) as advance:
        for _ in range(12_000):
            advance(1)
    (line,) = lines_of(capsys)
    assert re.fullmatch(r"Embed: 12,000 images in \d+\.\d s", line)


def test_a_slow_stage_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("Phase I", 3000, unit="epochs") as advance:
        for _ in range(3):
            advance(1000)
    first, second, last = lines_of(capsys)
    assert re.fullmatch(r"Phase I: 1,000 of 3,000 epochs, [\d,.]+ a second", first)
    assert second.startswith("Phase I: 2,000 of 3,000 epochs, ")
    assert last.startswith("Phase I: 3,000 epochs in ")


def test_lines_come_by_the_clock_and_not_by_the_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.2)
    with progress("Embed", 500) as advance:
        time.sleep(0.25)
        for _ in range(500):
            advance(1)
    lines = lines_of(capsys)
    assert lines[0].startswith("Embed: 1 of 500 images, ")
    assert 2 <= len(lines) < 10


def test_a_stage_that_fails_does_not_claim_to_have_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.suppress(OSError), progress("Embed", 2) as advance:
        advance(1)
        raise OSError("the disk is gone")
    assert lines_of(capsys) == []


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("Embed", 40) as advance:
            advance(30)
            advance(10)
    shown = read_all(reader)
    assert "Embed" in shown
    assert "40/40" in shown


def test_what_is_said_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("class [red]fox[/red]: 50 % of " + "x" * 200)
    assert lines_of(capsys) == ["class [red]fox[/red]: 50 % of " + "x" * 200]


def test_prefect_has_the_progress_of_a_task(prefect_session: str) -> None:
    @task
    def work() -> None:
        with progress("Half done", 8) as advance:
            advance(4)

    flow(work.fn, name="no-task")()  # outside of a task there is nowhere to put it
    flow(work, name="one-task")()
    kind = ArtifactFilter(type=ArtifactFilterType(any_=["progress"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=kind)
    mine = [artifact.data for artifact in found if artifact.description == "Half done"]
    assert mine == [50.0]
