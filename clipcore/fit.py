"""The training loop that all that learns shares."""

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

Batches = Callable[[Generator], Sequence[Tensor]]
"""Positions of each batch of one epoch, drawn anew; as many batches in every epoch."""

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
    """How long and in which random order; equal values give equal training, also when resumed.

    Attributes:
        epochs: Passes over the data.
        batch_size: Samples of a step.
        seed: Of every draw.
        stream: What the draws are for.
        warm_up: Steps in which the learning rate rises to what the cosine says.
        max_norm: Longer gradients are cut to this length.
    """

    epochs: int
    batch_size: int
    seed: int
    stream: str
    warm_up: int = 0
    max_norm: float | None = None

    def draws(self, epoch: int) -> Generator:
        """Return the random numbers of one epoch, independent of those before it."""
        return generator(self.seed, self.stream, "epoch", epoch)


def loader(inputs: Callable[[Tensor], Tensor]) -> PixelLoader:
    """Return a loader of inputs that are in memory, or mapped from a file."""

    def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (inputs(positions) for positions in batches)

    return load


def resolve_epochs(epochs: int, *, num_samples: int, batch_size: int, min_steps: int) -> int:
    """Return the epochs, raised so that a small set still gets `min_steps` optimizer steps."""
    steps_per_epoch = max(1, math.ceil(num_samples / batch_size))
    return max(epochs, math.ceil(min_steps / steps_per_epoch))


def cosine(step: int, total: int) -> float:
    """Return the factor of the learning rate, from 1 at the first step towards 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def risen(step: int, warm_up: int) -> float:
    """Return how far the learning rate has risen at a step, from 1 / `warm_up` at the first one."""
    return min(1.0, (step + 1) / warm_up) if warm_up else 1.0


def shuffled(num_samples: int, batch_size: int) -> Batches:
    """Return batches that go once through all samples, in random order."""
    return lambda draws: torch.randperm(num_samples, generator=draws).split(batch_size)


def cycled(num_samples: int, *, batch_size: int, steps: int) -> Batches:
    """Return so many batches, which go through all samples again and again in a new order."""
    return lambda draws: _cycle(num_samples, batch_size, steps, draws)


def mixed_batches(
    num_labeled: int, num_others: int, *, labeled_batch: int, other_batch: int
) -> Batches:
    """Return batches of so many labeled samples and so many others each.

    Positions count the labeled ones first. An epoch goes once through the kind that lasts longer,
    the other one starts over in a new order. Where one kind is empty, batches hold the other alone.
    """

    def epoch(draws: Generator) -> list[Tensor]:
        steps = max(-(-num_labeled // labeled_batch), -(-num_others // other_batch))
        labeled = _cycle(num_labeled, labeled_batch, steps, draws)
        others = _cycle(num_others, other_batch, steps, draws)
        return [
            torch.cat([one, num_labeled + two]) for one, two in zip(labeled, others, strict=True)
        ]

    return epoch


def _cycle(count: int, batch_size: int, steps: int, draws: Generator) -> list[Tensor]:
    """Return `steps` batches that go through all positions again and again, each time anew."""
    if not count:
        return [torch.zeros(0, dtype=torch.long)] * steps
    per_pass = -(-count // batch_size)
    batches: list[Tensor] = []
    for _ in range(-(-steps // per_pass)):
        batches += torch.randperm(count, generator=draws).split(batch_size)
    return batches[:steps]


def fit(  # what is minimised, over what, and how long
    optimizer: Optimizer,
    loss_terms: LossTerms,
    data: TrainingSet,
    schedule: Schedule,
    *,
    epochs: range,
    batches: Batches | None = None,
) -> Iterator[dict[str, float]]:
    """Minimise `loss` over the data; yield the mean of each loss term after every epoch.

    The learning rate rises and falls over all epochs of the schedule, of which `epochs` are run
    now. Running them one by one, in different processes, with the weights and the optimizer's state
    carried over, gives the same result as running them at once.

    Losses are read once an epoch: a GPU that is asked at each step waits for the next one.

    Args:
        optimizer: Over what learns; the rates of its groups are those of the first step.
        loss_terms: What is minimised.
        data: The samples.
        schedule: How long and in which random order.
        epochs: Which epochs of the schedule to run now.
        batches: Which samples go together; by default each once, in batches of the schedule's size.

    Raises:
        TrainingDiverged: the loss became infinite or not a number; nothing was reported for that
            epoch, whose weights are of no use.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    batches = batches or shuffled(len(data.labels), schedule.batch_size)
    for epoch in epochs:
        started = time.perf_counter()
        draws = schedule.draws(epoch)
        order = batches(draws)
        sums: dict[str, Tensor] = {}
        for number, (batch, pixels) in enumerate(zip(order, data.load_pixels(order), strict=True)):
            step = epoch * len(order) + number
            factor = cosine(step, schedule.epochs * len(order)) * risen(step, schedule.warm_up)
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            terms = loss_terms(pixels, data.labels[batch], draws)
            _descend(optimizer, terms["loss"], schedule.max_norm)
            for name, value in terms.items():
                weighed = value.detach().double() * len(batch)
                sums[name] = sums[name] + weighed if name in sums else weighed
        means = _means(sums, sum(len(batch) for batch in order), epoch)
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate  # so that a restored optimizer starts from the same rates
        yield {**means, "seconds": time.perf_counter() - started}


def _descend(optimizer: Optimizer, loss: Tensor, max_norm: float | None) -> None:
    """Take a step down the gradient, which is cut to `max_norm`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if max_norm is not None:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


def _means(sums: dict[str, Tensor], num_seen: int, epoch: int) -> dict[str, float]:
    """Return the mean of each term, in one copy from the device."""
    values = torch.stack(list(sums.values())).tolist() if sums else []
    means = {name: value / num_seen for name, value in zip(sums, values, strict=True)}
    if not math.isfinite(means.get("loss", 0.0)):
        raise TrainingDiverged(
            f"The loss became {means['loss']} in epoch {epoch + 1}; expected a finite number. "
            "Lower the learning rate."
        )
    return means
