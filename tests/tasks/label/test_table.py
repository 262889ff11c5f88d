"""The best over parts that come one by one are the best of all, and ties go to the lowest id."""

import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.label.table import merge_top, top_of_part

CLASSES = 3


@given(
    rows=st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, 4)), max_size=60),
    size=st.integers(1, 9),
    per_class=st.integers(1, 4),
)
def test_merged_parts_are_the_best_of_all(
    rows: list[tuple[int, int]], size: int, per_class: int
) -> None:
    ids = [f"{number:03}" for number in range(len(rows))]
    starts = range(0, len(rows), size)
    tops = [
        top_of_part(
            pa.array(ids[start : start + size], pa.string()),
            torch.tensor([label for label, _ in rows[start : start + size]]),
            torch.tensor([float(score) for _, score in rows[start : start + size]]),
            num_classes=CLASSES,
            per_class=per_class,
        )
        for start in reversed(starts)  # parts end in any order
    ]
    expected = {}
    for label in range(CLASSES):
        own = [(-score, image) for image, (k, score) in zip(ids, rows, strict=True) if k == label]
        expected |= {image: label for _, image in sorted(own)[:per_class]}
    assert merge_top(iter(tops), num_classes=CLASSES, per_class=per_class) == expected
