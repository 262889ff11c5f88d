"""Cells of the arena on stages that are written by hand: what is run, kept, measured, refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipcore import metrics
from clipcore.baselines import methods
from clipcore.baselines.evidence import Evidence, Scores, Taught
from tasks.compare.cells import Cell, Sources, run_cell
from tasks.compare.measure import measure_cell
from tasks.storage.files import exists
from tests.tasks.compare.conftest import DIM
from tests.worlds.stages import CLASSES, SCALE, images


@pytest.fixture
def cell(sources: Sources, tmp_path: Path) -> Cell:
    return Cell("zero-shot", 0, "as-is", 0, sources, str(tmp_path / "cells" / "one"))


def test_a_cell_is_measured_on_test_images_alone(cell: Cell) -> None:
    run_cell(cell)
    row = measure_cell(cell)
    table, embeddings, centres = images(DIM)
    rows = [
        (vector, CLASSES.index(one["label"]))
        for one, vector in zip(table.to_pylist(), embeddings["embedding"].to_pylist(), strict=False)
        if one["split"] == "test"
    ]
    said = (SCALE * torch.tensor([vector for vector, _ in rows]) @ centres.T).softmax(dim=1)
    labels = torch.tensor([label for _, label in rows])
    right = said.argmax(dim=1) == labels
    assert row["num_test"] == len(rows)
    assert row["accuracy"] == pytest.approx(float(right.float().mean()))
    expected = metrics.calibration_error(said.amax(dim=1), right)
    assert row["calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert row["seconds"] >= 0
    assert row["taught_precision"] is None


def test_labels_that_a_method_gave_itself_are_judged(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_wrong(evidence: Evidence, _seed: int) -> Scores:
        said = evidence.zero_shot.probabilities(evidence.pool)
        labels = said.argmax(dim=1)[:4].clone()
        labels[2:] = (labels[2:] + 1) % len(CLASSES)
        taught = Taught(torch.arange(4), labels)
        return replace(methods.METHODS["stata"](evidence, 0), taught=taught)

    monkeypatch.setattr(methods, "METHODS", {"half-wrong": half_wrong})
    monkeypatch.setattr("tasks.compare.cells.METHODS", {"half-wrong": half_wrong, "stata": None})
    monkeypatch.setitem(methods.METHODS, "stata", methods.stata)
    cell = replace(cell, method="half-wrong")
    run_cell(cell)
    row = measure_cell(cell)
    assert row["num_taught"] == 4
    assert row["taught_precision"] == pytest.approx(0.5, abs=0.26)
    assert row["taught_recall"] == pytest.approx(row["taught_precision"] * 4 / row["num_pool"])


@pytest.mark.parametrize("fault", ["raises", "says NaN"])
def test_a_method_that_fails_leaves_its_reason_and_is_tried_again(
    cell: Cell, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(evidence: Evidence, _seed: int) -> Scores:
        if fault == "raises":
            raise MemoryError("no room")
        nothing = torch.full((len(evidence.pool), len(evidence.classes)), torch.nan)
        return Scores(nothing, nothing[:0])

    with monkeypatch.context() as patch:
        patch.setattr("tasks.compare.cells.METHODS", {"zero-shot": broken})
        run_cell(cell)
    assert not exists(cell.uri)
    assert ("no room" if fault == "raises" else "no numbers") in measure_cell(cell)["failed"]
    run_cell(cell)
    assert "failed" not in measure_cell(cell)


@pytest.mark.parametrize(
    ("method", "said"),
    [("vpt", "lafter, must, deft tune any tower"), ("must", "Expected the images themselves")],
)
def test_a_method_that_cannot_tune_the_tower_is_a_row_that_says_why(
    cell: Cell, method: str, said: str
) -> None:
    run_cell(replace(cell, method=method, shots=1))
    assert said in measure_cell(cell)["failed"]


def test_a_balance_leaves_the_same_classes_out_of_both_splits(cell: Cell) -> None:
    run_cell(cell)
    half = replace(cell, balance="half-absent", place=cell.place + "-half")
    run_cell(half)
    whole, row = measure_cell(cell), measure_cell(half)
    assert row["num_pool"] < whole["num_pool"]
    assert row["num_test"] < whole["num_test"]


def test_a_method_with_labels_learns_from_so_many_of_each_class(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(evidence: Evidence, answers: torch.Tensor, _seed: int) -> Scores:
        seen.append(answers)
        return Scores(
            pool=F.one_hot(answers.clamp(min=0), len(evidence.classes)).float(),
            test=evidence.zero_shot.probabilities(evidence.test),
        )

    monkeypatch.setattr("tasks.compare.cells.LABELLED_METHODS", {"watched": watched})
    run_cell(replace(cell, method="watched", shots=2))
    (answers,) = seen
    assert torch.bincount(answers[answers >= 0]).tolist() == [2] * len(CLASSES)
