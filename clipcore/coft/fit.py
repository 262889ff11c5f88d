"""The training loop that both phases share."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor
from torch.optim import Optimizer

from clipcore.seeding import generator

PixelLoader = Callable[[Sequence[Tensor]], Iterator[Tensor]]
"""Batches of positions in, uint8 pixels of each batch out, in order; free to work ahead."""

LossTerms = Callable[[Tensor, Tensor, Generator], dict[str, Tensor]]
"""(pixels, labels, generator) in, named loss terms out; `loss` is what is minimised."""


class TrainingDiverged(ValueError):
    """A loss that is no longer a number."""


@dataclass(frozen=True)
class TrainingSet:
    """Images by position, with the label that each is believed to have."""

    labels: Int[Tensor, " samples"]
    load_pixels: PixelLoader


@dataclass(frozen=True)
class Schedule:
    """How long and in which random order; equal values give equal training, also when resumed."""

    epochs: int
    batch_size: int
    seed: int
    stream: str

    def draws(self, epoch: int) -> Generator:
        """Return the random numbers of one epoch, independent of those before it."""
        return generator(self.seed, self.stream, "epoch", epoch)


def resolve_epochs(epochs: int, *, num_samples: int, batch_size: int, min_steps: int) -> int:
    """Return the epochs, raised so that a small set still gets `min_steps` optimizer steps."""
    steps_per_epoch = max(1, math.ceil(num_samples / batch_size))
    return max(epochs, math.ceil(min_steps / steps_per_epoch))


def cosine(step: int, total: int) -> float:
    """Return the factor of the learning rate, from 1 at the first step towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def fit(
    optimizer: Optimizer,
    loss_terms: LossTerms,
    data: TrainingSet,
    schedule: Schedule,
    *,
    epochs: range,
) -> Iterator[dict[str, float]]:
    """Minimise `loss` over the data; yield the mean of each loss term after every epoch.

    The learning rate falls as a cosine over all epochs of the schedule, of which `epochs` are run
    now. Running them one by one, in different processes, with the weights and the optimizer's state
    carried over, gives the same result as running them at once.

    Raises:
        TrainingDiverged: the loss is infinite or not a number; nothing was reported for that epoch.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    steps_per_epoch = math.ceil(len(data.labels) / schedule.batch_size)
    for epoch in epochs:
        started = time.perf_counter()
        draws = schedule.draws(epoch)
        batches = torch.randperm(len(data.labels), generator=draws).split(schedule.batch_size)
        sums: dict[str, float] = {}
        for number, (batch, pixels) in enumerate(
            zip(batches, data.load_pixels(batches), strict=True)
        ):
            factor = cosine(epoch * steps_per_epoch + number, schedule.epochs * steps_per_epoch)
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            terms = loss_terms(pixels, data.labels[batch], draws)
            _step(optimizer, terms["loss"], epoch)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(batch)
        means = {name: value / len(data.labels) for name, value in sums.items()}
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate  # so that a restored optimizer starts from the same rates
        yield {**means, "seconds": time.perf_counter() - started}


def _step(optimizer: Optimizer, loss: Tensor, epoch: int) -> None:
    if not torch.isfinite(loss):
        raise TrainingDiverged(
            f"The loss became {loss.item()} in epoch {epoch + 1}; expected a finite number. "
            "Lower the learning rate."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
