r"""Momentum contrast on images whose labels are not used (CoFT+, section 3.3).

A view of an image should be found again by its key among the keys of other images. Keys come from
an encoder that follows the trained one slowly, and wait in a queue. The queue takes
`4 * queue_size * dim` bytes (8,192 keys of 512 numbers: 16 MB), the encoder as much as the tower.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from clipcore.augment import strong_view, view_size
from clipcore.checkpoint import prefixed, under
from clipcore.ema import MovingAverage
from clipcore.network import Network, encode_in_training, quick_in_training


def info_nce(
    queries: Float[Tensor, "batch dim"],
    keys: Float[Tensor, "batch dim"],
    queue: Float[Tensor, "waiting dim"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Return how hard it is to find the key of each query among those of other images.

    $$L = -\frac1B \sum_i \log \frac{e^{q_i k_i / \tau'}}
        {e^{q_i k_i / \tau'} + \sum_{k \in Q} e^{q_i k / \tau'}}$$

    of normalised vectors (CoFT Eq. 9). With an empty queue it is 0.
    """
    own = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=own.device))


def resolve_queue_size(queue_size: int, *, num_images: int) -> int:
    """Return the keys that wait, at most half of the images.

    A longer queue would hold the key of an image when the image itself comes again, as something
    to be told from.
    """
    return min(queue_size, num_images // 2)


class KeyQueue:
    """The last keys, oldest first out; it fills up from empty."""

    def __init__(self, size: int, dim: int, *, device: torch.device) -> None:
        self._slots = torch.zeros(size, dim, device=device)
        self._pushed = 0

    @property
    def keys(self) -> Float[Tensor, "waiting dim"]:
        """Return a copy of the keys that wait: gradients are computed after the next ones came."""
        return self._slots[: min(self._pushed, len(self._slots))].clone()

    def push(self, keys: Float[Tensor, "batch dim"]) -> None:
        """Put keys in the places of the oldest ones."""
        size = len(self._slots)
        if size:
            newest = keys[-size:]
            first = self._pushed + len(keys) - len(newest)
            places = torch.arange(first, first + len(newest), device=keys.device) % size
            self._slots[places] = newest.to(self._slots)
        self._pushed += len(keys)

    def tensors(self) -> dict[str, Tensor]:
        """Return the keys and how many there have been, for a checkpoint."""
        return {"slots": self._slots, "pushed": torch.tensor(self._pushed)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._slots.copy_(tensors["slots"])
        self._pushed = int(tensors["pushed"])


class MomentumContrast:
    """InfoNCE between two views of an image, beside the cross-entropy of Phase II (CoFT Eq. 10)."""

    name = "contrast"

    def __init__(  # noqa: PLR0913  # each is one choice of the paper
        self,
        network: Network,
        *,
        weight: float,
        momentum: float,
        temperature: float,
        queue_size: int,
        flip: bool = True,
        colours: bool = True,
    ) -> None:
        r"""Start with an encoder of keys that is the network's tower, and an empty queue.

        Args:
            network: What is trained.
            weight: $\gamma$ of Eq. 10.
            momentum: $\mu$ of Eq. 8.
            temperature: $\tau'$ of Eq. 9.
            queue_size: Keys that wait; see `resolve_queue_size`.
            flip: Whether a mirrored image shows the same class.
            colours: Whether views may change colours; not where these tell classes apart.
        """
        self.weight = weight
        visual = network.visual
        device = network.head.weight.device
        self._visual = visual
        self._average = MovingAverage(visual, momentum=momentum)
        self._encoder = quick_in_training(self._average.module)
        self._queue = KeyQueue(queue_size, visual.dim, device=device)
        self._temperature = temperature
        self._size, self._flip, self._colours = view_size(visual), flip, colours
        self._keys = self._queue.keys

    def view(
        self, pixels: UInt8[Tensor, "batch height width 3"], draws: Generator
    ) -> Float[Tensor, "batch 3 size size"]:
        """Encode the keys of a batch, and return the input of which `loss` gets the features.

        Before that the encoder of keys takes in what the last step changed (Eq. 8).
        """
        x = self._visual.to_input(pixels)
        queries, keys = self._strong(x, draws), self._strong(x, draws)
        self._average.update(self._visual)
        with torch.no_grad():
            self._keys = encode_in_training(self._encoder, keys)
        return queries

    def loss(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
        """Return Eq. 9 for the features of the last view, whose keys then wait in the queue."""
        value = info_nce(features, self._keys, self._queue.keys, temperature=self._temperature)
        self._queue.push(self._keys)
        return value

    def tensors(self) -> dict[str, Tensor]:
        """Return the encoder of keys and the queue, for a checkpoint."""
        return {
            **prefixed("encoder", self._average.tensors()),
            **prefixed("queue", self._queue.tensors()),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._average.restore(under("encoder", tensors))
        self._queue.restore(under("queue", tensors))

    def _strong(self, x: Tensor, draws: Generator) -> Tensor:
        return strong_view(
            x,
            self._visual.preprocess,
            generator=draws,
            size=self._size,
            flip=self._flip,
            colours=self._colours,
        )
