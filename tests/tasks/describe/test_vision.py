"""What is built for a language model: where vision enters, and how wide experts are."""

import pytest

from tasks.describe.language import LanguageRef
from tasks.describe.specs import VisionSpec
from tasks.describe.vision import design_of


def language(num_layers: int) -> LanguageRef:
    return LanguageRef(
        name="local-dir:x", uri="x", sha256="0" * 64, num_layers=num_layers, hidden_size=8
    )


@pytest.mark.parametrize(
    ("first", "num_layers", "expected"),
    [(None, 30, 24), (None, 2, 1), (None, 1, 0), (0, 30, 0), (7, 30, 7), (40, 30, 29)],
)
def test_vision_enters_at_four_fifths_or_where_asked(
    first: int | None, num_layers: int, expected: int
) -> None:
    design = design_of(VisionSpec(first=first), language(num_layers), dim=5)
    assert design.first == expected
    assert (design.dim, design.positions) == (5, 16)


def test_rank_zero_is_the_papers() -> None:
    assert design_of(VisionSpec(rank=0), language(4), dim=5).rank is None
    assert design_of(VisionSpec(rank=3, side=2), language(4), dim=5).rank == 3
