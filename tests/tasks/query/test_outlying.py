"""Images far from the centre of their class, by the definition."""

from pathlib import Path

import numpy as np
import pytest

from tasks.query.questions import outliers
from tests.worlds import workspace as made
from tests.worlds.workspace import CLASSES, Made


def test_outliers_are_the_lowest_cosines_with_the_class_centre(filled: Made) -> None:
    predicted = list(filled.labels)
    predicted[4] = "cat"
    centres = {
        name: np.sum(
            [v for v, label in zip(filled.vectors, predicted, strict=True) if label == name], axis=0
        )
        for name in CLASSES
    }
    typical = [
        float(v @ centres[label] / np.linalg.norm(centres[label]))
        for v, label in zip(filled.vectors, predicted, strict=True)
    ]
    order = np.argsort(typical)[:5]
    found = outliers(filled.uri, 5).to_pylist()
    assert [row["image_id"] for row in found] == [filled.ids[number] for number in order]
    assert np.allclose([row["similarity"] for row in found], np.sort(typical)[:5], atol=1e-5)
    of_class = [t for t, label in zip(typical, predicted, strict=True) if label == "cat"]
    means = {
        row["predicted"]: row["class_similarity"] for row in outliers(filled.uri, 48).to_pylist()
    }
    assert means["cat"] == pytest.approx(np.mean(of_class), abs=1e-5)


def test_outliers_without_labels_are_far_from_all(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    vectors = np.ones((16, 4), np.float32)
    vectors[11] = [1, -1, 1, -1]
    made.write_embeddings(uri, "e" * 16, ids, vectors)
    found = outliers(uri, 1).to_pylist()[0]
    assert (found["image_id"], found["predicted"]) == (ids[11], None)
