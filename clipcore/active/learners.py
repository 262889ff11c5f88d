"""The learners of active rounds by name: dual prompts, and the plain learners of the tables."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Generator, Tensor

from clipcore import adapters
from clipcore.adapters import Adapter
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner
from clipcore.image_sides import CachedFeatures, TowerWithAdapter
from clipcore.prompts import DualPrompts
from clipcore.text_sides import GivenText, TextSide, couple

LearnerKind = Literal["dual", "coop", "vpt", "maple"]


def on_features(
    backbone: Backbone,
    classes: Sequence[str],
    *,
    learns: bool,
    generator: Generator,
    prompts: Mapping[str, Any],
) -> DualLearner:
    """Return an untrained learner on features that the frozen tower gave once.

    Args:
        backbone: Frozen.
        classes: The class names.
        learns: Whether the image side learns a correction (dual); without one it is CoOp.
        generator: Draws the first contexts and the first correction, in this order.
        prompts: Arguments of `DualPrompts`.
    """
    dual = DualPrompts(backbone, classes, generator=generator, **prompts)
    images = CachedFeatures(backbone.embed_dim, generator=generator, learns=learns)
    return DualLearner(dual, images, logit_scale=backbone.logit_scale)


def through_tower(  # noqa: PLR0913  # what a learner is made of
    backbone: Backbone,
    classes: Sequence[str],
    *,
    kind: LearnerKind,
    given: Float[Tensor, "classes dim"],
    generator: Generator,
    prompts: Mapping[str, Any],
    adapter: Mapping[str, Any],
    flip: bool,
) -> DualLearner:
    """Return an untrained learner that sees pixels; its adapter is attached to the tower.

    Args:
        backbone: Frozen, with what the start learned on its tower.
        classes: The class names.
        kind: "vpt" keeps the given class embeddings, "maple" couples both towers' prompts, "dual"
            learns prompts and the adapter.
        given: Normalised class embeddings of the start.
        generator: Draws the first contexts and the first adapter, in this order.
        prompts: Arguments of `DualPrompts`.
        adapter: Arguments of `adapters.attach`; for "maple" the tokens and the depth of `couple`.
        flip: Whether a mirrored image shows the same class.

    Raises:
        UnsupportedBackbone: the adapter needs another kind of tower.
    """
    dual = DualPrompts(backbone, classes, generator=generator, **prompts)
    text: TextSide
    attached: Adapter
    if kind == "maple":
        text, attached = couple(
            backbone,
            dual,
            generator=generator,
            num_context_tokens=adapter["num_visual_prompts"],
            depth=adapter["depth"],
        )
    else:
        attached = adapters.attach(backbone.visual, generator=generator, **adapter)
        text = GivenText(given, dual) if kind == "vpt" else dual
    images = TowerWithAdapter(backbone.visual, attached, flip=flip)
    return DualLearner(text, images, logit_scale=backbone.logit_scale)
