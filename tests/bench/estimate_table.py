"""How far label-free estimates of a classifier's accuracy are off, for the method `fast`.

    python -m tests.bench.estimate_table --cache FOLDER

Reads the features that `tests.bench.label_trials` keeps in its cache. Prints, for each pool, how
right zero-shot and `fast` are on it, what each estimate says less how right `fast` is, in points,
and how it would do on a data set that its number was not chosen on.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.baselines.evidence import Evidence
from clipcore.baselines.propagated import fast
from clipcore.coft.guard import unread
from clipcore.propagation import affinity_graph, fitting_k, nearest, propagate
from clipcore.seeding import generator
from clipcore.zero_shot import class_embeddings
from tasks.backbone import load_backbone
from tasks.compare.cuts import chosen_rows
from tasks.compare.specs import Balance
from tests.bench.trial_data import DIGITS, spec_of

DATA = (DIGITS, "cifar10", "tiny25")


@dataclass(frozen=True)
class Seen:
    """What may be looked at: the images of a pool, and what two methods say of them."""

    evidence: Evidence
    zero_shot: Tensor
    fast: Tensor

    @property
    def labels(self) -> Tensor:
        """Return the classes that `fast` puts images in."""
        return self.fast.argmax(dim=1)

    @property
    def num_classes(self) -> int:
        """Return how many classes there are."""
        return len(self.evidence.classes)


def confidence(seen: Seen) -> float:
    """Return the mean confidence."""
    return _mean(seen.fast.amax(dim=1))


def both_confidences(seen: Seen) -> float:
    """Return the mean of both mean confidences."""
    return (_mean(seen.fast.amax(dim=1)) + _mean(seen.zero_shot.amax(dim=1))) / 2


def confidence_of_own(seen: Seen) -> float:
    """Return what zero-shot gives the labels of `fast`, in the mean."""
    return _mean(seen.zero_shot.gather(1, seen.labels[:, None]))


def agreement(seen: Seen) -> float:
    """Return on what share of the images both methods agree."""
    return _mean(seen.labels == seen.zero_shot.argmax(dim=1))


def agreement_of_halves(seen: Seen) -> float:
    """Return how often `fast` on two thirds of the images, each apart, agrees about the last third.

    Disagreement of two trainings equals the error of calibrated ones
    (https://arxiv.org/abs/2106.13799).
    """
    x = seen.evidence.pool
    one, two, rest = torch.randperm(len(x), generator=generator(0, "thirds")).chunk(3)
    said = [
        fast(_about(seen.evidence, x[rows], x[rest]), 0).test.argmax(dim=1) for rows in (one, two)
    ]
    return _mean(said[0] == said[1])


def agreement_with_few_neighbours(seen: Seen) -> float:
    """Return how often propagation over half of the neighbours agrees."""
    x = seen.evidence.pool
    k = max(1, fitting_k(len(x), seen.num_classes) // 2)
    spread = propagate(seen.zero_shot, affinity_graph([x], k=k))
    return _mean(seen.labels == spread.argmax(dim=1))


def root_of_coherence(seen: Seen) -> float:
    r"""Return $\sqrt{p_o}$: of two alike images, of one class, both are right with $a^2$."""
    x = unread(seen.evidence.pool, seen.evidence.text)
    positions = nearest(x, k=fitting_k(len(x), seen.num_classes))[1]
    return math.sqrt(_mean(seen.labels[positions] == seen.labels[:, None]))


def three_views(seen: Seen) -> float:
    r"""Return accuracy from three agreements, as if errors of three views were independent.

    $r_f = \sqrt{c_{fz} c_{fu} / c_{zu}}$ with $c$ and $r$ above chance; $u$: a vote of neighbours
    in what zero-shot does not read (Platanios et al. 2014, Estimating accuracy from unlabeled
    data).
    """
    x = unread(seen.evidence.pool, seen.evidence.text)
    positions = nearest(x, k=fitting_k(len(x), seen.num_classes))[1]
    votes = seen.zero_shot[positions].mean(dim=1).argmax(dim=1)
    z, f, chance = seen.zero_shot.argmax(dim=1), seen.labels, 1 / seen.num_classes

    def above(one: Tensor, two: Tensor) -> float:
        return max(1e-6, (_mean(one == two) - chance) / (1 - chance))

    root = math.sqrt(above(f, z) * above(f, votes) / above(z, votes))
    return chance + (1 - chance) * root


def neighbours_confidence(seen: Seen) -> float:
    """Return what neighbours, who have not asked the image, give its label: calibration by them."""
    x = seen.evidence.pool
    positions = nearest(x, k=fitting_k(len(x), seen.num_classes))[1]
    votes = seen.zero_shot[positions].mean(dim=1)
    return _mean(votes.gather(1, seen.labels[:, None]))


def confidence_and_neighbours(seen: Seen) -> float:
    """Return the mean of two that err to other sides."""
    return (confidence(seen) + neighbours_confidence(seen)) / 2


ESTIMATES: dict[str, Callable[[Seen], float]] = {
    "mean confidence": confidence,
    "mean of both confidences": both_confidences,
    "zero-shot's confidence in its labels": confidence_of_own,
    "agreement with zero-shot": agreement,
    "agreement of two thirds": agreement_of_halves,
    "agreement at half of k": agreement_with_few_neighbours,
    "root of coherence": root_of_coherence,
    "three views": three_views,
    "neighbours' belief in its labels": neighbours_confidence,
    "confidence and neighbours' belief": confidence_and_neighbours,
}


def main() -> None:
    """Print a row for each pool, then what each estimate is off at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bench", type=Path, default=Path(__file__).parents[3] / "shared/bench")
    options = parser.parse_args()
    _line(["pool", "zero-shot", "fast", *ESTIMATES])
    _line(["---"] * (len(ESTIMATES) + 3))
    rows = [row for data in DATA for row in _rows(data, options.bench, options.cache)]
    off = np.array([row for _, row in rows])
    _line(["at most", "", "", *(f"{value:.1f}" for value in np.abs(off).max(axis=0))])
    _line(["mean", "", "", *(f"{value:+.1f}" for value in off.mean(axis=0))])
    _line(["other sets", "", "", *_by_other_sets([data for data, _ in rows], off)])


def _by_other_sets(data: list[str], off: np.ndarray) -> Iterator[str]:
    """Yield what is left at most where the mean error on the other data sets is taken off."""
    sets = np.array(data)
    left = [off[sets == one] - off[sets != one].mean(axis=0) for one in DATA]
    yield from (f"{value:.1f}" for value in np.abs(np.concatenate(left)).max(axis=0))


def _rows(data: str, bench: Path, cache: Path) -> Iterator[tuple[str, list[float]]]:
    spec = spec_of(data, bench, cache, 0)
    backbone = load_backbone(spec.backbone.name)
    table = pq.read_table(spec.pool.images)
    classes = tuple(json.loads(table.schema.metadata[b"classes"]))
    ids = np.array([hashlib.sha256(image.as_py()).hexdigest() for image in table["image"]])
    pool = np.array(table["split"].to_pylist()) == "pool"
    rows = np.flatnonzero(pool)[np.argsort(ids[pool])]
    labels = np.array([classes.index(name) for name in table["label"].to_pylist()])[rows]
    name = f"{Path(spec.pool.images).stem}-{backbone.name.replace(':', '-')}.features.npy"
    features = torch.from_numpy(np.load(cache / name))[rows]
    text = class_embeddings(backbone, classes, spec.label.templates)
    for balance in get_args(Balance):
        kept = torch.from_numpy(chosen_rows(labels, balance, len(classes)))
        evidence = _evidence(features[kept], text, backbone, classes)
        seen = Seen(
            evidence,
            evidence.zero_shot.probabilities(evidence.pool),
            fast(evidence, 0).pool,
        )
        true = torch.from_numpy(labels)[kept]
        right = _mean(seen.labels == true)
        first = _mean(seen.zero_shot.argmax(dim=1) == true)
        off = [100 * (estimate(seen) - right) for estimate in ESTIMATES.values()]
        said = [f"{value:+.1f}" for value in off]
        _line([f"{data}, {balance}", f"{first:.3f}", f"{right:.3f}", *said])
        yield data, off


def _evidence(x: Tensor, text: Tensor, backbone: Backbone, classes: tuple[str, ...]) -> Evidence:
    return Evidence(x, x[:0], text[None], backbone.logit_scale, classes, lambda: backbone)


def _about(evidence: Evidence, pool: Tensor, test: Tensor) -> Evidence:
    return Evidence(
        pool,
        test,
        evidence.sentences,
        evidence.logit_scale,
        evidence.classes,
        evidence.load_backbone,
    )


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _line(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
