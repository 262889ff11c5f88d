"""Rounds and simulations that cannot be."""

from pathlib import Path

import pytest

from tests.flows.commands.conftest import Refused


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--learner.kind", "vpt"], "--learner.kind vpt"),
        (["--learner.kind", "maple"], "ViT"),
        (["--start", "phase2"], "--start phase2: expected phase1, zero-shot"),
        (["--start", "models:/nobody@champion"], "nobody"),
        (["--strategy", "best"], "strategy 'best' is unknown"),
        (["--strategy", "pcb:best"], "strategy 'best' is unknown"),
        (["--per-round", "0"], "per-round: "),
        (["--smallest-gain", "-1"], "smallest-gain: "),
    ],
)
def test_rounds_that_cannot_be(
    words: list[str],
    expected: str,
    photos: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    start = ["active", "start", "--images", str(photos), "--classes", "cat,dog"]
    place = ["--workspace", str(tmp_path / "place"), "--budget", "10"]
    assert expected in refused([*start, *place, *words])
    assert not (tmp_path / "place" / "rounds").exists()


def test_a_simulation_without_labels(photos: Path, refused: Refused) -> None:
    words = ["active", "simulate", "--images", str(photos), "--classes", "cat,dog"]
    assert "expected --labels" in refused(words)


def test_rounds_that_are_not_there(tmp_path: Path, refused: Refused) -> None:
    for command in (["next"], ["status"], ["run", "--oracle", "column"], ["answer", "a.csv"]):
        words = ["active", *command, "--workspace", str(tmp_path)]
        assert "There are no rounds in" in refused(words)
