"""Phase I: dual prompts and a light adapter, on images whose labels are trusted (CoFT 3.1).

A peer is trained by `clipcore.dual.train`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator

from clipcore import adapters
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner
from clipcore.image_sides import TowerWithAdapter
from clipcore.prompts import DualPrompts


def new_peer(
    backbone: Backbone,
    classes: Sequence[str],
    *,
    generator: Generator,
    prompts: Mapping[str, Any],
    adapter: Mapping[str, Any],
    flip: bool = True,
) -> DualLearner:
    """Return one of the two models that filter each other's labels, untrained.

    Args:
        backbone: A frozen CLIP; the adapter is attached to its visual tower.
        classes: The class names.
        generator: Draws the first contexts and the first adapter, in this order.
        prompts: Arguments of `DualPrompts`: number of context tokens, memory.
        adapter: Arguments of `adapters.attach`: name and sizes.
        flip: Whether a mirrored image shows the same class.

    Raises:
        ContextTooLong: a class name and the contexts do not fit the text tower together.
        UnsupportedBackbone: the adapter needs another kind of tower.
    """
    dual = DualPrompts(backbone, classes, generator=generator, **prompts)
    attached = adapters.attach(backbone.visual, generator=generator, **adapter)
    images = TowerWithAdapter(backbone.visual, attached, flip=flip)
    return DualLearner(dual, images, logit_scale=backbone.logit_scale)
