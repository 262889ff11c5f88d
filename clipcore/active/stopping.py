"""Whether one more round is worth its labels, told from the predictions of the rounds so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """How the predictions for the same images moved from one round to the next.

    Attributes:
        churn: Share of the images whose predicted class changed. Accuracy cannot have moved by
            more.
        surer: Mean rise of the clean probability at the prediction, over the images that changed.
    """

    churn: float
    surer: float


@dataclass(frozen=True)
class Outlook:
    """What one more round may bring.

    Attributes:
        most: Estimated share of the images that it will put in another class. Were it so, accuracy
            could not rise by more.
        expected: The rise in accuracy if the clean probability is right about these.
        worth_it: Whether `most` reaches the smallest gain that is worth a round.
    """

    most: float
    expected: float
    worth_it: bool


def change(
    before: Int[Tensor, " samples"],
    after: Int[Tensor, " samples"],
    p_clean_before: Float[Tensor, " samples"],
    p_clean_after: Float[Tensor, " samples"],
) -> Change:
    """Return how much two rounds' predictions of the same images differ."""
    moved = before != after
    churn = float(moved.double().mean()) if len(moved) else 0.0
    rise = (p_clean_after - p_clean_before)[moved]
    return Change(churn=churn, surer=float(rise.double().mean()) if len(rise) else 0.0)


def outlook(changes: Sequence[Change], *, smallest_gain: float = 0.01) -> Outlook | None:
    """Return what to expect of the next round; None before two rounds can be compared.

    Churn falls from round to round as the labels run out of news. The next one is the last times
    the ratio of the last two, at most the last itself. No label is needed, so it cannot see an
    error that every round repeats.
    """
    if not changes:
        return None
    last = changes[-1]
    before = changes[-2].churn if len(changes) > 1 else last.churn
    ratio = min(1.0, last.churn / before) if before > 0 else 1.0
    most = last.churn * ratio
    expected = max(0.0, most * last.surer)
    return Outlook(most=most, expected=expected, worth_it=most >= smallest_gain)
