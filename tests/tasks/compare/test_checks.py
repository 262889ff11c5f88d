"""What a comparison is refused for."""

import pytest
from pydantic import ValidationError

from tasks.compare.checks import check_arena
from tasks.compare.specs import ArenaSpec
from tasks.specs import InputError


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ArenaSpec(methods=("zlap", "zlop")), "zlop is none of zero-shot"),
        (ArenaSpec(methods=("gda",)), "learns from labels; say with --shots"),
        (ArenaSpec(methods=("coft:no-test",)), "coft:no-test is none of zero-shot"),
        (ArenaSpec(methods=("zlap",), shots=2), "--shots: none of --methods zlap would look at it"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_reason(spec: ArenaSpec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_arena(spec)


def test_lists_are_split_by_commas_and_named_once() -> None:
    spec = ArenaSpec.model_validate(
        {"methods": ("zlap, stata", "zlap"), "balance": "as-is,uniform"}
    )
    assert spec.methods == ("zlap", "stata")
    assert spec.balance == ("as-is", "uniform")


def test_an_unknown_balance_is_refused() -> None:
    with pytest.raises(ValidationError):
        ArenaSpec.model_validate({"balance": "skewed"})
