"""The classes that are offered, by a key each."""

import numpy as np

from tasks.answers.likely import likeliest


def test_the_likeliest_come_first_and_ties_keep_the_order_of_the_classes() -> None:
    rows = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])
    first, second = likeliest(rows, ("cat", "dog", "owl"), most=2)
    assert [one["label"] for one in first] == ["dog", "owl"]
    assert [one["probability"] for one in first] == [0.6, 0.3]
    assert [one["label"] for one in second] == ["cat", "owl"]
    assert len(likeliest(rows, ("cat", "dog", "owl"))[0]) == 3
