"""Light modules that adapt a frozen visual tower. Each has the same verbs.

`attach` puts a new adapter on a tower and returns it; `parameters` are what learns; `tensors` and
`restore` carry what was learned; `merge` leaves it in the tower for good, and `detach` takes it off
and leaves the tower as it was.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from clipcore.adapters.bottleneck import Bottleneck
from clipcore.adapters.lora import Lora
from clipcore.adapters.vpt import VisualPrompts
from clipcore.backbone import VisualTower
from clipcore.backbone_names import AdapterName, resolve_adapter


@runtime_checkable
class Adapter(Protocol):
    """What every adapter can do."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what learns."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned, by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""

    def merge(self) -> None:
        """Make what was learned part of the tower, whose state then holds it."""

    def detach(self) -> None:
        """Take the adapter off; the tower is as it was before `attach`."""


def attach(
    tower: VisualTower,
    name: AdapterName,
    *,
    generator: Generator,
    num_visual_prompts: int = 20,
    depth: int | None = None,
    lora_rank: int = 8,
) -> Adapter:
    """Attach the adapter that fits; `depth`: blocks with visual prompts, or all."""
    resolved = resolve_adapter(tower.kind, name)
    if resolved == "bottleneck":
        return Bottleneck.attach(tower, generator=generator)
    if resolved == "lora":
        return Lora.attach(tower, generator=generator, rank=lora_rank)
    return VisualPrompts.attach(
        tower, generator=generator, num_prompts=num_visual_prompts, depth=depth
    )
