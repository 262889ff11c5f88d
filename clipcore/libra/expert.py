"""The vision expert of a layer, of low rank, and the bridge between the two kinds of tokens."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.libra.language import Layer, RMSNorm
from clipcore.libra.shape import Shape

Start = Literal["svd", "normal"]
BRIDGE_RANK = 8


class LowRank(nn.Module):
    """A linear map W = B A without bias (LibraLinear)."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)
        self.b = nn.Parameter(b)

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch out"]:
        """Return B A x."""
        return F.linear(F.linear(x, self.a), self.b)


class Expert(nn.Module):
    """What vision tokens have instead of a layer's projections, MLP and norms.

    Args:
        layer: The language model's.
        shape: Its sizes.
        rank: Of each map; a quarter of its outputs by default, as in the paper.
        start: `svd` starts as the nearest map of that rank to the language model's; `normal` at
            random, as the paper does.
        generator: Of a random start.
    """

    def __init__(
        self, layer: Layer, shape: Shape, *, rank: int | None, start: Start, generator: Generator
    ) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        sources = {
            "q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj,
            "o": attention.o_proj, "gate": mlp.gate_proj, "up": mlp.up_proj, "down": mlp.down_proj,
        }  # fmt: skip
        self.maps = nn.ModuleDict(
            {
                name: _low_rank(source.weight, shape, rank, start, generator)
                for name, source in sources.items()
            }
        )
        self.input_norm = _copied(layer.input_layernorm)
        self.output_norm = _copied(layer.post_attention_layernorm)

    def mlp(self, x: Float[Tensor, "tokens size"]) -> Float[Tensor, "tokens size"]:
        """Return down(silu(gate(x)) * up(x))."""
        maps = self.maps
        y: Tensor = maps["down"](F.silu(maps["gate"](x)) * maps["up"](x))
        return y


class Bridge(nn.Module):
    """What is added to keys and values of tokens where tokens of the other kind read them.

    `B` starts as zero: at first nothing changes. Attention among tokens of one kind never does.
    """

    def __init__(self, shape: Shape, *, generator: Generator) -> None:
        super().__init__()
        width = shape.num_key_value_heads * shape.head_dim
        self.maps = nn.ModuleDict(
            {
                f"{part}_{kind}": LowRank(
                    _normal((BRIDGE_RANK, shape.hidden_size), shape, generator),
                    torch.zeros(width, BRIDGE_RANK),
                )
                for kind in ("language", "vision")
                for part in ("k", "v")
            }
        )

    def forward(
        self, language: Float[Tensor, "texts size"], vision: Float[Tensor, "images size"], part: str
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to `k` or `v` of language and of vision tokens."""
        return self.maps[f"{part}_language"](language), self.maps[f"{part}_vision"](vision)


def _low_rank(
    weight: Tensor, shape: Shape, rank: int | None, start: Start, generator: Generator
) -> LowRank:
    out, size = weight.shape
    rank = min(rank or max(1, out // 4), out, size)
    if start == "normal":
        return LowRank(
            _normal((rank, size), shape, generator), _normal((out, rank), shape, generator)
        )
    u, s, v = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    root = s[:rank].sqrt()
    return LowRank(root[:, None] * v[:rank], u[:, :rank] * root)


def _normal(size: tuple[int, int], shape: Shape, generator: Generator) -> Tensor:
    return torch.empty(size).normal_(0, shape.initializer_range, generator=generator)


def _copied(norm: RMSNorm) -> RMSNorm:
    copy = RMSNorm(len(norm.weight), norm.eps)
    with torch.no_grad():
        copy.weight.copy_(norm.weight)
    return copy
