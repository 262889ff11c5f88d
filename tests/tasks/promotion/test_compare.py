"""A model beside the champion: counted right by right, with labels and without."""

import json
from pathlib import Path

import pytest

from clipcore.metrics import paired_interval
from tasks.gate import Comparison
from tasks.promotion.compare import compare
from tasks.refs import ImagesRef, ModelRef, PredictionsRef, TaskRef
from tasks.specs import GateSpec, InputError
from tests.worlds.workspace import image_id, write_predictions, write_task

CLASSES = ["cat", "dog"]
ROWS = 40


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


def predicted(place: str, digest: str, labels: list[str], skip: int = 0) -> PredictionsRef:
    """Write predictions of images, without the first ones."""
    numbers = range(skip, len(labels))
    rows = [
        {
            "label": labels[n],
            "confidence": 0.9,
            "probabilities": [1.0],
            "member_labels": [labels[n]],
        }
        for n in numbers
    ]
    write_predictions(place, digest * 16, [image_id(n) for n in numbers], rows)
    return PredictionsRef(uri=f"{place}/predictions/{digest * 16}", digest=digest)


def compared(
    place: str, new: list[str], old: list[str], truth: list[str] | None = None, *, skip: int = 0
) -> Comparison:
    models = []
    for name in ("new", "old"):
        folder = Path(place) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps({"classes": CLASSES}))
        models.append(ModelRef(uri=str(folder), digest=name))
    task = None
    if truth is not None:
        write_task(place, "t" * 16, [image_id(n) for n in range(ROWS)], truth, CLASSES)
        uri = f"{place}/tasks/{'t' * 16}"
        task = TaskRef(uri=uri, digest="t", classes=tuple(CLASSES), labeled=True)
    images = ImagesRef(
        uri=place, digest="i", num_pool=ROWS, num_test=0, num_duplicates=0, num_quarantined=0
    )
    predictions = [predicted(place, "a", new, skip), predicted(place, "b", old)]
    return compare.fn(models, predictions, images, task, None, GateSpec())


def test_without_labels_agreement_and_shares_are_measured(place: str) -> None:
    old = ["cat", "dog"] * (ROWS // 2)
    found = compared(place, ["dog" if n < 10 else name for n, name in enumerate(old)], old)
    assert (found.num_images, found.num_labelled, found.interval) == (ROWS, 0, None)
    assert found.agreement == pytest.approx(35 / 40)
    assert found.drift == pytest.approx(5 / 40)
    assert compared(place, ["cat"] * ROWS, old).lost_classes == 1


def test_with_labels_the_difference_has_an_interval(place: str) -> None:
    truth = ["cat", "dog"] * (ROWS // 2)
    swap = {"cat": "dog", "dog": "cat"}
    old = [swap[name] if n < 10 else name for n, name in enumerate(truth)]
    new = [swap[name] if n in (20, 21) else name for n, name in enumerate(truth)]
    found = compared(place, new, old, truth)
    assert found.num_labelled == ROWS
    assert found.accuracy == pytest.approx(38 / 40)
    assert found.champion_accuracy == pytest.approx(30 / 40)
    assert found.interval == paired_interval(10, 2, ROWS)


def test_images_that_only_one_could_read_do_not_count(place: str) -> None:
    names = ["cat", "dog"] * (ROWS // 2)
    assert compared(place, names, names, skip=7).num_images == ROWS - 7
    with pytest.raises(InputError, match="found none"):
        compared(place, names, names, skip=ROWS)
