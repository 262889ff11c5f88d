"""Maps of embeddings."""

import numpy as np
import pytest

from tasks.report.projection import neighbour_agreement, project


def test_neighbour_agreement_of_separate_and_of_mixed_classes() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4, 8), 20, axis=0) + 0.01 * rng.normal(size=(80, 8))
    separate = [str(i // 20) for i in range(80)]
    assert neighbour_agreement(vectors, separate) == 1.0
    mixed = neighbour_agreement(vectors, [str(i % 4) for i in range(80)])
    assert mixed is not None
    assert mixed == pytest.approx(4 / 19, abs=0.1)
    assert neighbour_agreement(vectors[:5], separate[:5]) is None


@pytest.mark.parametrize("count", [0, 1, 2, 50, 120])
def test_map_of_few_or_equal_images_is_finite(count: int) -> None:
    points, _ = project(np.ones((count, 8), np.float32), seed=0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
