"""Text sides of a round's learner beside `prompts.DualPrompts`: what stays, and what couples."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.adapters.vpt import VisualPrompts
from clipcore.backbone import Backbone
from clipcore.backbone_names import resolve_adapter
from clipcore.prompts import FIRST_WORDS, INITIAL_STD, DualPrompts, word_embeddings


@runtime_checkable
class TextSide(Protocol):
    """Class embeddings of both signs, some of which learn."""

    @property
    def names(self) -> Tensor:
        """Return one row for each class, on the device where the embeddings are made."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was learned."""

    def load_state_dict(self, tensors: dict[str, Tensor]) -> object:
        """Put back what `state_dict` returned."""

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Return the normalised (positive, negative) embedding of every class."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what may learn."""


class GivenText(nn.Module):
    """Positive class embeddings that stay as they are; only the negative prompts learn."""

    positive: Tensor

    def __init__(self, positive: Float[Tensor, "classes dim"], dual: DualPrompts) -> None:
        super().__init__()
        self.register_buffer("positive", positive.to(dual.names.device))
        self.dual = dual
        dual.positive_context.requires_grad = False

    @property
    def names(self) -> Tensor:
        """Return one row for each class."""
        return self.dual.names

    def forward(self) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "classes dim"]]:
        """Return the embeddings that were given, and those of the negative prompts."""
        return self.positive, self.dual()[1]


class CoupledPrompts(nn.Module):
    """MaPLe: contexts in the first blocks of the text tower, and their images as visual prompts.

    Each of the first `depth` blocks reads a context of its own; a linear map for each makes the
    visual prompts of the same block, so that both towers learn as one. The first context begins as
    "a photo of a", the others at random. The negative prompts are those of `DualPrompts`.

    Reference: MaPLe, https://arxiv.org/abs/2210.03117, section 3.2.
    """

    def __init__(
        self,
        backbone: Backbone,
        dual: DualPrompts,
        *,
        visual_width: int,
        generator: Generator,
        num_context_tokens: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.dual = dual
        dual.positive_context.requires_grad = False
        width = backbone.text.width
        drawn = torch.randn(depth, num_context_tokens, width, generator=generator) * INITIAL_STD
        words = word_embeddings(backbone, FIRST_WORDS)[:num_context_tokens]
        drawn[0, : len(words)] = words
        bound = width**-0.5
        maps = (2 * torch.rand(depth, width, visual_width, generator=generator) - 1) * bound
        self.contexts = nn.Parameter(drawn.to(backbone.device))
        self.maps = nn.Parameter(maps.to(backbone.device))
        self.shifts = nn.Parameter(torch.zeros(depth, 1, visual_width, device=backbone.device))

    @property
    def names(self) -> Tensor:
        """Return one row for each class."""
        return self.dual.names

    def forward(self) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "classes dim"]]:
        """Return the embeddings of the coupled contexts, and those of the negative prompts."""
        return self.positive(), self.dual()[1]

    def positive(self) -> Float[Tensor, "classes dim"]:
        """Return the normalised embeddings of the coupled contexts alone."""
        return self.dual.encode_with(self.contexts[0], deep_context=self.contexts[1:])

    def visual_tokens(self) -> Float[Tensor, "depth context visual_width"]:
        """Return the visual prompts of each block; see `VisualPrompts.follow`."""
        return self.contexts @ self.maps + self.shifts


def couple(
    backbone: Backbone,
    dual: DualPrompts,
    *,
    generator: Generator,
    num_context_tokens: int = 2,
    depth: int = 9,
) -> tuple[CoupledPrompts, VisualPrompts]:
    """Put coupled prompts on both towers, in as many blocks as both have, at most `depth`.

    Raises:
        UnsupportedBackbone: the image tower is no ViT.
    """
    resolve_adapter(backbone.visual.kind, "vpt")
    depth = min(depth, len(backbone.text.transformer.resblocks))
    visual = VisualPrompts.attach(
        backbone.visual, generator=generator, num_prompts=num_context_tokens, depth=depth
    )
    depth, _, visual_width = visual.tokens.shape
    prompts = CoupledPrompts(
        backbone,
        dual,
        visual_width=visual_width,
        generator=generator,
        num_context_tokens=num_context_tokens,
        depth=depth,
    )
    visual.follow(prompts.visual_tokens)
    return prompts, visual
