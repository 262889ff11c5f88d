"""Rounds played with labels that are known, strategy against strategy."""

import json
from pathlib import Path

import pytest

from flows.simulate import simulate
from tasks.active.simulate import read_findings
from tasks.active.specs import SimulationSpec
from tasks.specs import InputError
from tests.worlds.rounds import PER_ROUND, active_spec

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def test_simulated_rounds_read_as_many_labels_as_they_ask_for(
    common: str, begun: tuple[Path, Path], tiny_clip: Path
) -> None:
    active = active_spec(begun[0], Path(common), tiny_clip, start="phase1")
    spec = SimulationSpec(
        active=active, strategies=("paper", "random"), seeds=2, rounds=2, per_round=PER_ROUND
    )
    found = simulate(spec)
    results = json.loads((Path(found.uri) / "results.json").read_text())
    assert set(results["lines"]) == {"paper", "random", "random labels only"}
    for line in results["lines"].values():
        assert set(line) == {"0", "1"}
        for rows in line.values():
            assert [row["num_labels"] for row in rows] == [0, PER_ROUND, 2 * PER_ROUND]
            assert all(0 <= row["accuracy"] <= 1 for row in rows)
    firsts = {line: rows["0"][0]["accuracy"] for line, rows in results["lines"].items()}
    assert len(set(firsts.values())) == 1, "without answers all lines are one"
    numbers, lines = read_findings(found)
    assert Path(numbers["report"]).stat().st_size > 10_000
    assert any(line.startswith("paper above random") for line in lines)
    assert simulate(spec).resumed


def test_a_simulation_needs_labels_and_known_strategies(
    images: Path, workspace: Path, tiny_clip: Path
) -> None:
    active = active_spec(images, workspace, tiny_clip)
    with pytest.raises(InputError, match=r"'best' is unknown.*badge"):
        simulate(SimulationSpec(active=active, strategies=("best",)))
