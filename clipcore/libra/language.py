"""A frozen language model of the LLaMA architecture whose forward pass can be entered at any layer.

The arithmetic is that of transformers' `LlamaForCausalLM`, in the same order, so that logits are
equal bit for bit. Weights come from a folder in transformers' layout; those in fp32 are mapped.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from clipcore.checkpoint import tensors_sha256
from clipcore.libra.shape import WEIGHTS, Shape, UnsupportedLanguage, read_shape

INDEX = "model.safetensors.index.json"


@dataclass
class LayerCache:
    """Keys and values that a layer has computed, of shape (batch, heads, tokens, head size)."""

    keys: Tensor
    values: Tensor

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add what came, and return all."""
        self.keys = torch.cat([self.keys, keys], dim=2)
        self.values = torch.cat([self.values, values], dim=2)
        return self.keys, self.values


class RMSNorm(nn.Module):
    """Root mean square norm, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Return x / rms(x) * weight."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        z: Tensor = self.weight * y.to(x.dtype)
        return z


class Attention(nn.Module):
    """The four projections of a layer's attention; grouped queries share keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden_size, bias=False)


class MLP(nn.Module):
    """The gated feed-forward part of a layer (SwiGLU)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Return down(silu(gate(x)) * up(x))."""
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Layer(nn.Module):
    """One layer of the language model; its parts are used by the mixed layers as they are."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(
        self,
        x: Float[Tensor, "batch tokens size"],
        turn: "Rotation",
        visible: Bool[Tensor, "#batch tokens keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch tokens size"]:
        """Return what the next layer reads; see `Language.run`."""
        own, y = self.self_attn, self.input_layernorm(x)
        queries, keys = turn(by_head(own.q_proj(y), turn)), turn(by_head(own.k_proj(y), turn))
        values = by_head(own.v_proj(y), turn)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        x = x + own.o_proj(attend(queries, keys, values, visible))
        z: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return z


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding of some tokens: cosines and sines of their angles."""

    cos: Float[Tensor, "#batch 1 tokens head"]
    sin: Float[Tensor, "#batch 1 tokens head"]

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys of shape (batch, heads, tokens, head size)."""
        first, second = x.chunk(2, dim=-1)
        return (x * self.cos) + (torch.cat((-second, first), dim=-1) * self.sin)


class Language(nn.Module):
    """A LLaMA. `load` returns it frozen; `Libra` enters it at the layer where vision does."""

    def __init__(self, shape: Shape, *, tied: bool = True) -> None:
        super().__init__()
        self.shape = shape
        self._frequencies = _frequencies(shape)  # no buffer: they stay fp32 in a bf16 model
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def rotation(self, positions: Int[Tensor, "#batch tokens"], dtype: torch.dtype) -> Rotation:
        """Return the rotary embedding of positions."""
        angles = positions[..., None].float() * self._frequencies.to(positions.device)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))

    def run(  # what a piece of the forward pass depends on
        self,
        x: Float[Tensor, "batch tokens size"],
        layers: range,
        positions: Int[Tensor, "#batch tokens"],
        *,
        visible: Bool[Tensor, "#batch tokens keys"] | None = None,
        cache: Sequence[LayerCache] | None = None,
    ) -> Float[Tensor, "batch tokens size"]:
        """Run some layers.

        Args:
            x: What the first of them reads.
            layers: Their numbers.
            positions: Of the tokens.
            visible: Which keys, cached ones first, each token may read; by default itself and all
                before it.
            cache: For each layer of the model what it has seen before, which this adds to.
        """
        turn = self.rotation(positions, x.dtype)
        for number in layers:
            x = self.layers[number](x, turn, visible, cache[number] if cache is not None else None)
        return x

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocabulary"]:
        """Return the logits of the next token after each token of some texts."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.run(self.embed_tokens(ids), range(len(self.layers)), positions)
        logits: Tensor = self.lm_head(self.norm(x))
        return logits

    def new_cache(self, batch: int) -> list[LayerCache]:
        """Return an empty cache of all layers."""
        shape = self.shape
        empty = self.norm.weight.new_zeros(batch, shape.num_key_value_heads, 0, shape.head_dim)
        return [LayerCache(empty, empty) for _ in self.layers]

    def sha256(self) -> str:
        """Return the SHA-256 of the names, shapes and values of all weights."""
        return tensors_sha256(self.state_dict())


def by_head(x: Float[Tensor, "batch tokens width"], turn: Rotation) -> Tensor:
    """Return (batch, heads, tokens, head size), of projections of tokens."""
    split: Tensor = x.unflatten(-1, (-1, turn.cos.shape[-1]))
    return split.transpose(1, 2)


def attend(
    queries: Float[Tensor, "batch heads tokens size"],
    keys: Float[Tensor, "batch groups keys size"],
    values: Float[Tensor, "batch groups keys size"],
    visible: Bool[Tensor, "#batch tokens keys"] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """Return what each token reads, heads side by side.

    Without `visible`, each token reads itself and all before it; the tokens are the last ones of
    the keys.
    """
    if visible is None and 1 < queries.shape[2] < keys.shape[2]:
        visible = causal(queries.shape[2], keys.shape[2], device=queries.device)
    read = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if visible is None else visible[:, None],
        is_causal=visible is None and queries.shape[2] > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return read.transpose(1, 2).flatten(2)


def causal(tokens: int, keys: int, *, device: torch.device) -> Bool[Tensor, "1 tokens keys"]:
    """Return which keys the last tokens may read: themselves and all before them."""
    return torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)[None]


def load(folder: Path) -> Language:
    """Load a language model in transformers' layout: frozen, in fp32, in evaluation mode.

    Raises:
        UnsupportedLanguage: it is none that coft runs, or files are missing or broken.
    """
    shape = read_shape(folder)
    weights = _read_weights(folder)
    tied = "lm_head.weight" not in weights
    with torch.device("meta"):
        language = Language(shape, tied=tied)
    state = {name.removeprefix("model."): tensor.float() for name, tensor in weights.items()}
    if tied:
        state["lm_head.weight"] = state.get("embed_tokens.weight", torch.zeros(0))
    try:
        language.load_state_dict(state, assign=True)
    except RuntimeError as error:
        what = str(error).strip().splitlines()[1].strip()
        raise UnsupportedLanguage(f"{folder}: the weights are not a LLaMA's: {what}") from error
    if tied:
        language.lm_head.weight = language.embed_tokens.weight
    return language.requires_grad_(requires_grad=False).eval()


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of one file, or of several with an index."""
    index = folder / INDEX
    names = [WEIGHTS]
    try:
        if index.is_file():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return {name: tensor for file in names for name, tensor in load_file(folder / file).items()}
    except Exception as error:  # safetensors raises an error of its own for each way to be broken
        raise UnsupportedLanguage(
            f"{folder}: the weights ({', '.join(names[:3])}) cannot be read: {error}"
        ) from error


def _frequencies(shape: Shape) -> Float[Tensor, " half"]:
    """Return the turns of the rotary embedding, scaled as Llama 3.1 does where it says so."""
    size, rope = shape.head_dim, shape.rope
    exponents = torch.arange(0, size, 2, device="cpu").float() / size
    frequencies: Tensor = 1.0 / (rope["rope_theta"] ** exponents)
    if "factor" not in rope:
        return frequencies
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    length = rope["original_max_position_embeddings"]
    wavelengths = 2 * math.pi / frequencies
    smooth = (length / wavelengths - low) / (high - low)
    scaled = frequencies / rope["factor"]
    between = (1 - smooth) * scaled + smooth * frequencies
    long, short = wavelengths > length / low, wavelengths < length / high
    return torch.where(long, scaled, torch.where(short, frequencies, between))
