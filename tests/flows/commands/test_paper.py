"""`--paper` from the command line: the paper's choices, under what a person says."""

from pathlib import Path
from typing import Any

import pytest

from flows import cli
from flows.commands import adapt
from flows.commands.paper import as_in_paper
from tasks.specs import CoftSpec, PoolSpec


@pytest.fixture
def spec_of(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return `spec_of(*words)`: the run that `coft adapt` plans."""
    seen: list[CoftSpec] = []
    announce = adapt.announce

    def watched(spec: CoftSpec, *about: Any, **options: Any) -> Any:
        seen.append(spec)
        return announce(spec, *about, **options)

    monkeypatch.setattr(adapt, "announce", watched)

    def spec(*words: str) -> CoftSpec:
        about = ["--images", str(photos), "--classes", "cat,dog"]
        about += ["--workspace", str(tmp_path / "place"), "--dry-run"]
        assert cli.run(["adapt", *about, *words]) == cli.DONE
        return seen[-1]

    return spec


def test_the_paper_has_no_guard_and_starts_from_clip(spec_of: Any) -> None:
    default, paper = spec_of(), spec_of("--paper")
    assert default.phase2.start == "phase1"
    assert (paper.phase2.start, paper.phase2.epochs, paper.phase2.holdout) == ("original", 10, 0)
    assert paper.phase2.wise_alphas == (1.0,)
    assert (paper.label.top.per_class, paper.label.top.min_total) == (16, 0)
    assert paper.label.templates == ("a photo of a {}.",)
    assert paper.plus == default.plus, "which `coft` would not look at"
    assert paper.phase1.sgd == default.phase1.sgd


def test_what_a_person_says_holds_also_where_it_is_the_default(spec_of: Any) -> None:
    spec = spec_of("--paper", "--phase2.epochs", "2", "--label.top.min-total", "9")
    assert (spec.phase2.epochs, spec.phase2.start) == (2, "original")
    assert (spec.label.top.min_total, spec.label.top.per_class) == (9, 16)


def test_coft_plus_of_the_paper_asks_no_neighbours(spec_of: Any) -> None:
    assert spec_of("--method", "coft-plus").plus.neighbours.k == 10
    spec = spec_of("--method", "coft-plus", "--paper", "--plus.rounds", "1")
    assert (spec.plus.neighbours.k, spec.plus.rounds, spec.plus.contrast.weight) == (0, 1, 0.1)


def test_a_spec_made_in_python_is_treated_alike() -> None:
    spec = as_in_paper(
        CoftSpec.model_validate({"pool": PoolSpec(images="a"), "phase2": {"epochs": 2}})
    )
    assert (spec.phase2.epochs, spec.phase2.holdout) == (2, 0)
