r"""The network that all modalities share, and the small part of each that is its own.

$$f_m(x) = \text{norm}(\text{Proj}(\Phi(E_m(x); A_m)))$$

A trunk takes what a stem made and returns features beside the text embeddings of the class names.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

TrunkName = Literal["mlp", "transformer"]
PartName = Literal["adapter", "prompts", "none"]

HIDDEN = 256
BLOCKS = 2
TOKENS = 16  # that the transformer cuts its input into
TOKEN_WIDTH = 64
HEADS = 4
BOTTLENECK = 16
PROMPTS, PROMPT_TOKENS, CHOSEN = 16, 2, 4


class Adapter(nn.Module):
    r"""A bottleneck beside the MLP of each block: $U_b\,\text{ReLU}(D_b v)$, nothing while new."""

    def __init__(self, width: int, blocks: int, generator: Generator) -> None:
        super().__init__()
        down = [torch.randn(BOTTLENECK, width, generator=generator) for _ in range(blocks)]
        self.down = nn.ParameterList([nn.Parameter(one / math.sqrt(width)) for one in down])
        self.up = nn.ParameterList(
            [nn.Parameter(torch.zeros(width, BOTTLENECK)) for _ in range(blocks)]
        )

    def forward(self, block: int, v: Tensor) -> Tensor:
        """Return what is added in a block."""
        added: Tensor = F.relu(v @ self.down[block].T) @ self.up[block].T
        return added


class PromptPool(nn.Module):
    """Prompts that samples choose among by themselves; one pool for all modalities.

    Each sample takes the `CHOSEN` prompts whose keys are most like what its stem made.
    Reference: L2P, https://arxiv.org/abs/2112.08654, Eq. 3 to 5.
    """

    def __init__(self, dim: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(PROMPTS, dim, generator=generator))
        prompts = torch.randn(PROMPTS, PROMPT_TOKENS, width, generator=generator)
        self.prompts = nn.Parameter(0.02 * prompts)

    def forward(
        self, h: Float[Tensor, "batch dim"]
    ) -> tuple[Float[Tensor, "batch tokens width"], Float[Tensor, ""]]:
        """Return the prompts of each sample, and how unlike their keys are: 0 to 2."""
        cosines = F.normalize(h, dim=1) @ F.normalize(self.keys, dim=1).T
        best = cosines.topk(CHOSEN, dim=1)
        return self.prompts[best.indices].flatten(1, 2), (1 - best.values).mean()


Part = Adapter | PromptPool
"""What a modality has of its own."""


class MlpTrunk(nn.Module):
    """Residual MLP blocks and a projection to the width of the anchors."""

    def __init__(self, dim: int, out: int, generator: Generator) -> None:
        super().__init__()
        self.width = dim
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(BLOCKS)])
        self.mlps = nn.ModuleList([_mlp(dim, generator) for _ in range(BLOCKS)])
        self.last = nn.LayerNorm(dim)
        self.projection = _linear(dim, out, generator)

    def forward(
        self, h: Float[Tensor, "batch dim"], part: Part | None
    ) -> Float[Tensor, "batch out"]:
        """Return L2-normalised features; there are no tokens here that prompts could join."""
        adapter = part if isinstance(part, Adapter) else None
        for block, (norm, mlp) in enumerate(zip(self.norms, self.mlps, strict=True)):
            v = norm(h)
            h = h + mlp(v) + (adapter(block, v) if adapter else 0)
        return F.normalize(self.projection(self.last(h)), dim=1)


class TransformerTrunk(nn.Module):
    """Pre-norm attention blocks over pieces of the input and a class token."""

    def __init__(self, dim: int, out: int, generator: Generator) -> None:
        super().__init__()
        self.width = TOKEN_WIDTH
        self.embed = _linear(dim // TOKENS, TOKEN_WIDTH, generator)
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, TOKEN_WIDTH, generator=generator))
        places = torch.randn(TOKENS + 1, TOKEN_WIDTH, generator=generator)
        self.places = nn.Parameter(0.02 * places)
        width = TOKEN_WIDTH
        self.first = nn.ModuleList([nn.LayerNorm(width) for _ in range(BLOCKS)])
        self.qkv = nn.ModuleList([_linear(width, 3 * width, generator) for _ in range(BLOCKS)])
        self.mix = nn.ModuleList([_linear(width, width, generator) for _ in range(BLOCKS)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(BLOCKS)])
        self.mlps = nn.ModuleList([_mlp(width, generator) for _ in range(BLOCKS)])
        self.last = nn.LayerNorm(width)
        self.projection = _linear(width, out, generator)

    def forward(
        self,
        h: Float[Tensor, "batch dim"],
        part: Part | None,
    ) -> Float[Tensor, "batch out"]:
        """Return L2-normalised features; prompts are further tokens of each sample."""
        adapter = part if isinstance(part, Adapter) else None
        pieces = self.embed(h.unflatten(1, (TOKENS, -1)))
        x = torch.cat([self.start.expand(len(h), -1, -1), pieces], dim=1) + self.places
        if isinstance(part, PromptPool):
            x = torch.cat([x, part(h)[0]], dim=1)
        for block, (norm, mlp) in enumerate(zip(self.norms, self.mlps, strict=True)):
            x = x + self._attend(block, self.first[block](x))
            v = norm(x)
            x = x + mlp(v) + (adapter(block, v) if adapter else 0)
        return F.normalize(self.projection(self.last(x[:, 0])), dim=1)

    def _attend(self, block: int, v: Tensor) -> Tensor:
        parts = self.qkv[block](v).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        projected: Tensor = self.mix[block](mixed.transpose(1, 2).flatten(2))
        return projected


Trunk = MlpTrunk | TransformerTrunk


def new_trunk(name: TrunkName, dim: int, out: int, generator: Generator) -> Trunk:
    """Return a new trunk from `dim` numbers of a stem to `out` of the anchors."""
    kind = MlpTrunk if name == "mlp" else TransformerTrunk
    return kind(dim, out, generator)


def new_part(name: PartName, trunk: Trunk, dim: int, generator: Generator) -> Part | None:
    """Return a new part for a trunk; an adapter changes nothing yet.

    Raises:
        ValueError: prompts for a trunk without tokens.
    """
    if name == "none":
        return None
    if name == "adapter":
        return Adapter(trunk.width, BLOCKS, generator)
    if isinstance(trunk, MlpTrunk):
        msg = "expected the trunk `transformer` for prompts, got `mlp`"
        raise ValueError(msg)  # noqa: TRY004  # two arguments that do not go together
    return PromptPool(dim, trunk.width, generator)


def anchor_logits(
    features: Float[Tensor, "batch out"], anchors: Float[Tensor, "classes out"], scale: float
) -> Float[Tensor, "batch classes"]:
    r"""Return $s f T^\top$ with the class names' embeddings $T$, which never move."""
    return scale * features @ anchors.T


def frozen(modules: Sequence[nn.Module]) -> None:
    """Let modules learn no more."""
    for module in modules:
        module.requires_grad_(requires_grad=False)


def _mlp(width: int, generator: Generator) -> nn.Sequential:
    return nn.Sequential(
        _linear(width, HIDDEN, generator), nn.GELU(), _linear(HIDDEN, width, generator)
    )


def _linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """Return a layer with PyTorch's own start, drawn from a generator."""
    layer = nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
