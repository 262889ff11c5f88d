"""Light modules that adapt a frozen visual tower. Each has the same three verbs.

`attach(tower, ...)` puts a new adapter on a tower and returns it; `adapter.detach()` takes it off
and leaves the tower as it was; `adapter.parameters()` are what learns. `attach` here chooses.
"""

from typing import Literal

from torch import Generator

from clipcore.adapters.bottleneck import Bottleneck
from clipcore.adapters.lora import Lora
from clipcore.adapters.vpt import VisualPrompts
from clipcore.backbone import UnsupportedBackbone, VisualTower

Adapter = VisualPrompts | Lora | Bottleneck
AdapterName = Literal["auto", "vpt", "lora", "bottleneck"]


def attach(
    tower: VisualTower,
    name: AdapterName,
    *,
    generator: Generator,
    num_visual_prompts: int = 20,
    lora_rank: int = 8,
) -> Adapter:
    """Attach the named adapter; `auto` is deep visual prompts on a ViT, a bottleneck on timm towers.

    Raises:
        UnsupportedBackbone: visual prompts or LoRA were asked for on a timm tower.
    """
    if name == "bottleneck" or (name == "auto" and tower.kind == "timm"):
        return Bottleneck.attach(tower, generator=generator)
    if tower.kind == "timm":
        raise UnsupportedBackbone(
            f"Adapter {name!r} needs open_clip's ViT; this image tower comes from timm. "
            "Use --adapter bottleneck or auto."
        )
    if name == "lora":
        return Lora.attach(tower, generator=generator, rank=lora_rank)
    return VisualPrompts.attach(tower, generator=generator, num_prompts=num_visual_prompts)
