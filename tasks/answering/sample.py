"""A random sample of all predictions: how right a model is, and whether it beats zero-shot.

Images on which the two differ say which one is better, and those on which they agree are needed for
the accuracy: a half of the sample is drawn from each, at random, with the classes by their shares.
What the models say is not shown, as people tend to say the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from clipcore.estimates import Stratum, evidence, proportional_order, stratified_mean
from tasks.answering.desk import Question
from tasks.answering.predicted import Predicted
from tasks.answering.specs import AskSpec
from tasks.answers.likely import OFFERED

ENOUGH = 20.0  # of the evidence: whoever is as good reaches it with a probability of 5 % at most
SAME = 0.01  # a difference of the accuracies that matters to nobody

_ALL = """
SELECT p.image_id, p.uri, p.label, z.label AS zero_shot FROM predictions p
LEFT JOIN (SELECT image_id, any_value(label) AS label FROM labels WHERE source = 'zero-shot'
    GROUP BY 1) z USING (image_id) ORDER BY p.image_id
"""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.string()),
        ("zero_shot", pa.string()),  # null where nobody knows
        ("differ", pa.bool_()),
        ("size", pa.int64()),  # images that differ, or do not, as this one
    ]
)


def draw(predicted: Predicted, spec: AskSpec) -> pa.Table:
    """Return the sample (schema `SCHEMA`), in the order in which to ask."""
    everything = predicted.rows(_ALL)
    if everything["zero_shot"].null_count < len(everything):  # where both say something
        everything = everything.filter(everything["zero_shot"].is_valid())
    labels = np.array(everything["label"].to_pylist(), dtype=object)
    others = np.array(everything["zero_shot"].to_pylist(), dtype=object)
    differ = np.array([b is not None and a != b for a, b in zip(labels, others, strict=True)])
    _, groups = np.unique(labels.astype(str), return_inverse=True)
    random = np.random.default_rng(spec.seed)
    drawn = []
    for kind in (True, False):
        rows = np.flatnonzero(differ == kind)
        drawn.append(rows[proportional_order(groups[rows], random)])
    order = _in_turn(*drawn)[: spec.most]
    table = everything.take(pa.array(order))
    return pa.table(
        {
            **{name: table[name] for name in ("image_id", "uri", "label", "zero_shot")},
            "differ": differ[order],
            "size": np.where(differ, len(drawn[0]), len(drawn[1]))[order],
        },
        schema=SCHEMA,
    )


def _in_turn(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return both, one of each in turn, as long as both have some."""
    both = min(len(one), len(two))
    mixed = np.stack([one[:both], two[:both]], axis=1).reshape(-1)
    return np.concatenate([mixed, one[both:], two[both:]]).astype(np.int64)


def blind(sample: pa.Table, classes: Sequence[str]) -> list[Question]:
    """Return the sample as questions that do not tell what the models say.

    What is offered are the labels of both and others, in an order that depends on the image alone.
    """
    return [
        Question(
            image_id=row["image_id"],
            uri=row["uri"],
            label=None,
            confidence=None,
            reason="drawn at random; what the models say is not shown",
            likely=tuple((name, None) for name in _offered(row, classes)),
        )
        for row in sample.to_pylist()
    ]


def _offered(row: Mapping[str, str], classes: Sequence[str]) -> list[str]:
    seed = int(sha256(row["image_id"].encode()).hexdigest()[:16], 16)
    random = np.random.default_rng(seed)
    said = {row["label"], row["zero_shot"]} - {None}
    rest = [name for name in classes if name not in said]
    more = random.permutation(len(rest))[: OFFERED - len(said)]
    names = sorted([*said, *(rest[place] for place in more)])
    return [names[place] for place in random.permutation(len(names))]


@dataclass(frozen=True)
class Measured:
    """What the labels so far say: lines for a person, and whether there are enough."""

    lines: tuple[str, ...]
    enough: bool


def measure(sample: pa.Table, labels: Mapping[str, str | None]) -> Measured:
    """Measure both models on the images of the sample that have a label.

    Args:
        sample: Of `draw`.
        labels: By image; None for an image that shows none of the classes, where both are wrong.
    """
    rows = [row for row in sample.to_pylist() if row["image_id"] in labels]
    if not rows:
        return Measured((), enough=False)
    sizes = {row["differ"]: row["size"] for row in sample.to_pylist()}
    truth = [labels[row["image_id"]] for row in rows]
    model = [int(row["label"] == true) for row, true in zip(rows, truth, strict=True)]
    lines = [f"With {len(rows)} answers: adapted {_told(rows, sizes, model)}"]
    if rows[0]["zero_shot"] is None:
        return Measured((lines[0] + ".",), enough=False)
    zero = [int(row["zero_shot"] == true) for row, true in zip(rows, truth, strict=True)]
    lines[0] += f", zero-shot {_told(rows, sizes, zero)}."
    compared, enough = _compared(rows, sizes, model, zero)
    return Measured((*lines, compared), enough)


def _strata(
    rows: Sequence[Mapping[str, object]], sizes: Mapping[bool, int], values: Sequence[int]
) -> list[Stratum]:
    return [
        Stratum(
            size,
            tuple(v for row, v in zip(rows, values, strict=True) if row["differ"] == differ),
        )
        for differ, size in sizes.items()
    ]


def _told(
    rows: Sequence[Mapping[str, object]], sizes: Mapping[bool, int], values: Sequence[int]
) -> str:
    found = stratified_mean(_strata(rows, sizes, values))
    return "unknown" if found is None else f"{found.mean:.2f} ± {found.half_width:.2f}"


def _most(
    rows: Sequence[Mapping[str, object]], sizes: Mapping[bool, int], gains: Sequence[int]
) -> float:
    """Return how far apart the accuracies may be: images on which both agree add nothing."""
    share = sizes.get(True, 0) / sum(sizes.values())
    differ = [gain for row, gain in zip(rows, gains, strict=True) if row["differ"]]
    found = stratified_mean([Stratum(sizes.get(True, 0), tuple(differ))])
    return share * (1.0 if found is None else abs(found.mean) + found.half_width)


def _compared(
    rows: Sequence[Mapping[str, object]],
    sizes: Mapping[bool, int],
    model: Sequence[int],
    zero: Sequence[int],
) -> tuple[str, bool]:
    """Return which of both is better, and whether more answers would not change that."""
    gains = [a - b for a, b in zip(model, zero, strict=True)]
    wins, losses = gains.count(1), gains.count(-1)
    differ = sum(bool(row["differ"]) for row in rows)
    text = (
        f"They differ on {sizes.get(True, 0)} images; of {differ} of these the adapted model is "
        f"right on {wins}, zero-shot on {losses}, neither on {differ - wins - losses}."
    )
    most = _most(rows, sizes, gains)
    odds = evidence(wins, losses)
    if odds >= ENOUGH:
        better = "The adapted model" if wins > losses else "Zero-shot"
        return f"{text} {better} is better (evidence {min(odds, 1e6):,.0f} : 1): enough.", True
    if most < SAME:
        return f"{text} Neither is better by a point or more: enough.", True
    return f"{text} Not decided yet (evidence {odds:.1f} : 1; 20 : 1 is enough).", False
