"""What a person should look at: the most doubtful predictions, and answers that can be taken."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.annotations.schema import NONE
from tasks.answers.review import LABEL_STUDIO, SHEET, doubtful, write_review
from tasks.refs import PredictionsRef, Ref
from tasks.specs import ReviewSpec
from tasks.storage.layout import DESCRIPTION
from tasks.storage.manifest import Part, make_manifest, write_manifest
from tasks.storage.schemas import PREDICTIONS
from tasks.storage.tables import read_table, write_table

CLASSES = ("cat", "dog")
SURE = {"confidence": 0.95, "none_of_these": 0.5}
ROWS = [
    SURE,
    {"confidence": 0.4, "none_of_these": 0.2},
    {"confidence": 0.97, "none_of_these": 0.999},
    {"confidence": 0.3, "none_of_these": 0.1},
    SURE,
    {"confidence": 0.6, "none_of_these": 0.98},
]


@pytest.fixture
def predictions(tmp_path: Path, pool: pa.Table) -> PredictionsRef:
    """Two parts of predictions about real image files."""
    folder = tmp_path / "predictions"
    rows = [
        {**given, "image_id": image["image_id"], "uri": image["uri"], "label": "cat"}
        | {"runner_up": "dog", "runner_up_confidence": 0.01, "split": "pool"}
        | {"probabilities": [0.9, 0.1]}
        for given, image in zip(ROWS, pool.to_pylist(), strict=False)
    ]
    parts = []
    for name, some in (("a.parquet", rows[:4]), ("b.parquet", rows[4:])):
        write_table(str(folder / name), pa.Table.from_pylist(some, schema=PREDICTIONS))
        parts.append(Part(name=name, rows=len(some)))
    write_manifest(str(folder), make_manifest("predictions", "d" * 16, parts))
    return PredictionsRef(uri=str(folder), digest="d" * 16, rows=len(rows))


def test_the_most_doubtful_come_first(predictions: PredictionsRef) -> None:
    rows = doubtful(predictions.uri, CLASSES, ReviewSpec(below=0.5)).to_pylist()
    assert [row["confidence"] for row in rows] == pytest.approx([0.97, 0.3, 0.4])
    assert [row["reason"] for row in rows] == [
        "99.9% of the pool look more like one of the classes",
        "or dog?",
        "or dog?",
    ]
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert [one["label"] for one in rows[0]["likely"]] == ["cat", "dog"]
    some = doubtful(predictions.uri, CLASSES, ReviewSpec(below=0.7, most=2)).to_pylist()
    assert [row["confidence"] for row in some] == pytest.approx([0.97, 0.6])
    assert doubtful(predictions.uri, CLASSES, ReviewSpec(below=0, foreign=1)).num_rows == 0


def test_a_sheet_and_tasks_are_written(predictions: PredictionsRef, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / DESCRIPTION).write_text(json.dumps({"classes": ["cat", "dog"]}))
    model = Ref(uri=str(tmp_path / "model"), digest="m" * 16)
    written = write_review(predictions, model, ReviewSpec(below=0.5), max_pixels=10**6)
    assert written.rows == 3
    page = Path(written.uri, SHEET).read_text()
    assert page.count("<article") == 3
    assert "<h1>Review: which class" in page
    tasks = json.loads(Path(written.uri, LABEL_STUDIO, "tasks-0001.json").read_text())
    images = [task["data"]["image_id"] for task in tasks]
    assert images == read_table(f"{written.uri}/review.parquet")["image_id"].to_pylist()
    assert all(task["data"]["image"].startswith("data:image/") for task in tasks)


def test_names_that_label_studio_does_not_take_cost_only_its_tasks(
    predictions: PredictionsRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / DESCRIPTION).write_text(json.dumps({"classes": ["cat", NONE]}))
    model = Ref(uri=str(tmp_path / "model"), digest="m" * 16)
    written = write_review(predictions, model, ReviewSpec(below=0.5), max_pixels=10**6)
    assert Path(written.uri, SHEET).is_file()
    assert "No tasks for Label Studio" in capsys.readouterr().err
