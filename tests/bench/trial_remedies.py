"""Remedies for wrong labels that coft itself does not have, for the trials to try."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor

from clipcore.coft.consistency import class_thresholds
from clipcore.ema import MovingAverage
from clipcore.network import Network, interpolate
from tests.bench import trial_steps as steps
from tests.bench.trial_data import Images

Labeled = tuple[Tensor, Tensor]  # rows, and the labels that they are believed to have


def diverse(
    surest: Labeled, posterior: Tensor, features: Tensor, *, share: float, seed: int
) -> Labeled:
    """Return of each class the surest image of each of its clusters, as many as a share of all."""
    rows, labels = surest
    chosen = []
    for label in labels.unique():
        own = rows[labels == label]
        own = own[posterior[own, label].argsort(descending=True)]
        count = max(1, round(share * len(own)))
        clusters = KMeans(count, n_init=1, random_state=seed).fit_predict(features[own].numpy())
        _, firsts = np.unique(clusters, return_index=True)
        chosen.append((own[firsts], torch.full((len(firsts),), int(label))))
    rows, labels = (torch.cat(one) for one in zip(*chosen, strict=True))
    order = rows.argsort()
    return rows[order], labels[order]


def is_sure(belief: Tensor, labels: Tensor) -> Tensor:
    """Return of which labels a belief is sure enough for their class (FreeMatch, Eq. 5 to 7)."""
    confidence = belief.max(dim=1).values.mean()
    return belief.max(dim=1).values >= class_thresholds(confidence, belief.mean(dim=0))[labels]


def without_large_losses(
    networks: Sequence[Network], chosen: Sequence[Labeled], images: Images, *, share: float
) -> list[Labeled]:
    """Return the labels whose loss under the other network is small for their class.

    Args:
        networks: Both, after they learned from these labels for a while.
        chosen: What each of them learns from.
        images: Where the pixels are.
        share: How many labels of a class stay; 0: as many as belong to the component of small
            losses in a mixture of two normal distributions (DivideMix,
            https://arxiv.org/abs/2002.07394, section 3.1).
    """
    kept = []
    for (rows, labels), other in zip(chosen, reversed(networks), strict=True):
        logits = steps.logits_of(other, images.pixels[rows])
        losses = F.cross_entropy(logits, labels, reduction="none")
        keep = _of_each_class(losses, labels, share) if share else _likely_right(losses)
        kept.append((rows[keep], labels[keep]))
    return kept


def _of_each_class(losses: Tensor, labels: Tensor, share: float) -> Tensor:
    most = torch.full_like(losses, torch.inf)
    for label in labels.unique():
        most[labels == label] = losses[labels == label].quantile(share)
    return losses <= most


def _likely_right(losses: Tensor) -> Tensor:
    values = losses.numpy()[:, None]
    mixture = GaussianMixture(2, random_state=0).fit(values)
    small = int(mixture.means_[:, 0].argmin())
    return torch.from_numpy(mixture.predict(values) == small)


class Averages:
    """Averages of one network's weights: moving ones over the steps, and the mean of epochs."""

    def __init__(
        self, network: Network, optimizer: torch.optim.Optimizer, momenta: Sequence[float]
    ) -> None:
        """Follow the network at every step of the optimizer."""
        self._network, self._epochs = network, 0
        self._mean = steps.copied(network)
        self._moving = {one: MovingAverage(network, momentum=one) for one in momenta}
        optimizer.register_step_post_hook(lambda *_: self._follow())

    def logits(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return what each average says of images, after one more epoch."""
        self._epochs += 1
        end = steps.copied(self._network)
        self._mean = interpolate(self._mean, end, 1 / self._epochs)
        (of_mean,) = steps.logits_of_states(self._network, [self._mean], pixels)
        moving = {
            f"average {name}": steps.logits_of(one.module, pixels)
            for name, one in self._moving.items()
        }
        return {**moving, "mean of epochs": of_mean}

    def _follow(self) -> None:
        for average in self._moving.values():
            average.update(self._network)
