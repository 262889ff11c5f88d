"""Libra: a frozen language model with a vision system of its own (arXiv 2405.10140).

A flag of each token routes it: language tokens go through the language model's layers as they are,
vision tokens through experts, and a bridge lets each kind read the other. Nothing of the language
model learns, so text without an image gives its logits bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from clipcore.libra.expert import Bridge, Expert, Start
from clipcore.libra.language import (
    Language,
    Layer,
    LayerCache,
    RMSNorm,
    Rotation,
    attend,
    by_head,
    causal,
)
from clipcore.libra.words import BOOKS, VOCABULARY, WORDS, Words

LANGUAGE = "language."
"""What names of the frozen model's tensors begin with; they are not Libra's to keep."""


@dataclass(frozen=True)
class Design:
    """What a vision system is made as.

    Attributes:
        dim: Numbers of the feature of an image position.
        positions: Of an image.
        first: Layer at which vision enters. 0 is the paper; below a later one texts do not see
            images, so that their states there are computed once.
        rank: Of the experts' maps; None is a quarter of their outputs, as in the paper.
        start: Of the experts; `normal` is the paper.
        expert: Whether vision tokens have weights of their own; else they use the language model's.
        bridge: Whether there is one.
    """

    dim: int
    positions: int
    first: int
    rank: int | None = 64
    start: Start = "svd"
    expert: bool = True
    bridge: bool = True


@dataclass(frozen=True)
class Sequences:
    """Texts and images in any layout, one a row; what does not apply to a token is zero.

    Attributes:
        ids: Text tokens.
        is_vision: Which tokens are of an image.
        words: Of image tokens, of each book; `BEGIN` and `END` of an image among them.
        signals: Features of image positions; of `BEGIN` and `END` they are not looked at.
    """

    ids: Int[Tensor, "batch tokens"]
    is_vision: Bool[Tensor, "batch tokens"]
    words: Int[Tensor, "batch tokens 2"]
    signals: Float[Tensor, "batch tokens dim"]


class Route:
    """Where the tokens of each kind stand in a batch."""

    def __init__(self, is_vision: Bool[Tensor, "batch tokens"]) -> None:
        self.is_vision = is_vision
        flat = is_vision.flatten()
        self._language, self._vision = (~flat).nonzero()[:, 0], flat.nonzero()[:, 0]
        self.is_pure = not len(self._vision)

    def split(self, x: Float[Tensor, "batch tokens size"]) -> tuple[Tensor, Tensor]:
        """Return language tokens and vision tokens, one below the other."""
        flat = x.flatten(0, 1)
        if self.is_pure:
            return flat, flat[:0]
        return flat[self._language], flat[self._vision]

    def join(self, language: Tensor, vision: Tensor) -> Float[Tensor, "batch tokens size"]:
        """Return all tokens at their places; undoes `split`."""
        flat = language
        if not self.is_pure:
            flat = language.new_zeros(self.is_vision.numel(), language.shape[-1])
            flat = flat.index_copy(0, self._language, language)
            flat = flat.index_copy(0, self._vision, vision.to(flat.dtype))
        return flat.view(*self.is_vision.shape, -1)


@dataclass
class MixedCache:
    """What a mixed layer has seen: keys and values as their own kind reads them, and the other."""

    plain: LayerCache
    bridged: LayerCache
    is_vision: Bool[Tensor, "batch keys"]


class MixedLayer(nn.Module):
    """A layer of the language model beside which vision tokens have one of their own."""

    def __init__(self, expert: Expert | None, bridge: Bridge | None) -> None:
        super().__init__()
        self.expert = expert
        self.bridge = bridge

    def forward(
        self,
        layer: Layer,
        streams: tuple[Tensor, Tensor],
        route: Route,
        turn: Rotation,
        visible: Bool[Tensor, "#batch tokens keys"] | None,
        cache: MixedCache | None,
    ) -> tuple[Tensor, Tensor]:
        """Return language and vision tokens as the next layer reads them.

        A query reads tokens of its own kind as they are, and those of the other kind with what the
        bridge adds (section 3.2). Keys stand twice in a row, and the mask picks.
        """
        language, vision = streams
        own, parts = layer.self_attn, self._parts(layer)
        x, y = layer.input_layernorm(language), parts["input_norm"](vision)
        queries = turn(by_head(route.join(own.q_proj(x), parts["q"](y)), turn))
        keys = self._keys(own.k_proj(x), parts["k"](y), (x, y), route, "k")
        values = self._keys(own.v_proj(x), parts["v"](y), (x, y), route, "v")
        plain, bridged = (
            (turn(by_head(key, turn)), by_head(value, turn))
            for key, value in zip(keys, values, strict=True)
        )
        read = self._attend(queries, plain, bridged, route, visible, cache)
        text, seen = route.split(read)
        language, vision = language + own.o_proj(text), vision + parts["o"](seen)
        language = language + layer.mlp(layer.post_attention_layernorm(language))
        vision = vision + parts["mlp"](parts["output_norm"](vision))
        return language, vision

    def _parts(self, layer: Layer) -> Mapping[str, Any]:
        """Return what vision tokens go through: the expert's, or the language model's own."""
        if self.expert is not None:
            expert = self.expert
            norms = {"input_norm": expert.input_norm, "output_norm": expert.output_norm}
            return {**dict(expert.maps.items()), **norms, "mlp": expert.mlp}
        own = layer.self_attn
        maps = {"q": own.q_proj, "k": own.k_proj, "v": own.v_proj, "o": own.o_proj}
        norms = {
            "input_norm": layer.input_layernorm,
            "output_norm": layer.post_attention_layernorm,
        }
        return {**maps, **norms, "mlp": layer.mlp}

    def _keys(
        self, text: Tensor, image: Tensor, read: tuple[Tensor, Tensor], route: Route, part: str
    ) -> tuple[Tensor, Tensor]:
        """Return keys, or values, as tokens of the same kind see them, and of the other kind."""
        plain = route.join(text, image)
        if self.bridge is None:
            return plain, plain
        more_text, more_image = self.bridge(*read, part)
        return plain, route.join(text + more_text, image + more_image)

    @staticmethod
    def _attend(  # what a query reads
        queries: Tensor,
        plain: tuple[Tensor, Tensor],
        bridged: tuple[Tensor, Tensor],
        route: Route,
        visible: Tensor | None,
        cache: MixedCache | None,
    ) -> Float[Tensor, "batch tokens width"]:
        is_vision = route.is_vision
        if cache is not None:
            plain, bridged = cache.plain.extend(*plain), cache.bridged.extend(*bridged)
            is_vision = cache.is_vision = torch.cat([cache.is_vision, is_vision], dim=1)
        if not is_vision.any():
            return attend(queries, *plain, visible)
        if visible is None:
            visible = causal(queries.shape[2], is_vision.shape[1], device=queries.device)
        alike = route.is_vision[:, :, None] == is_vision[:, None, :]
        mask = torch.cat([visible & alike, visible & ~alike], dim=-1)
        keys, values = (torch.cat(both, dim=2) for both in zip(plain, bridged, strict=True))
        return attend(queries, keys, values, mask)


class Libra(nn.Module):
    """The vision system on a language model.

    Args:
        language: Frozen; stays as it is.
        design: What is built.
        words: Learned before, from features of images alone.
        generator: Of all random starts.
    """

    def __init__(
        self, language: Language, design: Design, words: Words, *, generator: Generator
    ) -> None:
        super().__init__()
        shape = language.shape
        hidden = shape.hidden_size
        self.language = language
        self.design = design
        self.words = words.requires_grad_(requires_grad=False)
        half = hidden // 2
        self.embeddings = nn.ModuleList(nn.Embedding(VOCABULARY, half) for _ in range(BOOKS))
        self.norm = RMSNorm(BOOKS * half + design.dim, shape.rms_norm_eps)
        self.project = nn.Linear(BOOKS * half + design.dim, hidden, bias=False)
        self.layers = nn.ModuleList(
            MixedLayer(
                Expert(layer, shape, rank=design.rank, start=design.start, generator=generator)
                if design.expert
                else None,
                Bridge(shape, generator=generator) if design.bridge else None,
            )
            for layer in self._mixed()
        )
        self.last_norm = RMSNorm(hidden, shape.rms_norm_eps)
        self.heads = nn.ModuleList(nn.Linear(hidden, VOCABULARY, bias=False) for _ in range(BOOKS))
        self._start(generator)

    @classmethod
    def restored(cls, language: Language, design: Design, tensors: Mapping[str, Tensor]) -> "Libra":
        """Return what `tensors` returned of a vision system, frozen and in evaluation mode.

        Raises:
            RuntimeError: the tensors are of another design.
        """
        draws = Generator()  # all that is drawn is replaced, and a normal start is quickest
        drawn = replace(design, start="normal")
        libra = cls(language, drawn, Words(design.dim, generator=draws), generator=draws)
        libra.design = design
        libra.restore(tensors)
        return libra.requires_grad_(requires_grad=False).eval()

    def vision(self) -> list[nn.Parameter]:
        """Return what learns."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is not the language model's: words, embeddings, experts, heads."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(LANGUAGE)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned.

        Raises:
            RuntimeError: they are of another design.
        """
        missing, unexpected = self.load_state_dict(tensors, strict=False)
        if unexpected or any(not name.startswith(LANGUAGE) for name in missing):
            raise RuntimeError(f"tensors of another design: {missing}, {unexpected}")

    def embed_vision(
        self, words: Int[Tensor, "*batch 2"], signals: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch size"]:
        """Return what the first mixed layer reads of image tokens.

        Their words' embeddings and their features, side by side, normed and projected. Signals of
        `BEGIN` and `END`, and of words that are being drawn, are zero.
        """
        read = [book(words[..., place]) for place, book in enumerate(self.embeddings)]
        is_word = (words[..., :1] < WORDS) & (signals != 0).any(-1, keepdim=True)
        signals = torch.where(is_word, self.words.standardised(signals), 0.0)
        projected: Tensor = self.project(self.norm(torch.cat([*read, signals], dim=-1)))
        return projected

    def text_states(
        self,
        ids: Int[Tensor, "batch tokens"],
        positions: Int[Tensor, "#batch tokens"],
        *,
        visible: Bool[Tensor, "#batch tokens keys"] | None = None,
        cache: Sequence[LayerCache] | None = None,
    ) -> Float[Tensor, "batch tokens size"]:
        """Return what the first mixed layer reads of texts: images have no part in it."""
        x = self.language.embed_tokens(ids)
        below = range(self.design.first)
        return self.language.run(x, below, positions, visible=visible, cache=cache)

    def read(
        self,
        x: Float[Tensor, "batch tokens size"],
        is_vision: Bool[Tensor, "batch tokens"],
        positions: Int[Tensor, "#batch tokens"],
        *,
        visible: Bool[Tensor, "#batch tokens keys"] | None = None,
        cache: Sequence[MixedCache] | None = None,
    ) -> Float[Tensor, "batch tokens size"]:
        """Run the mixed layers and the last norms.

        Args:
            x: Tokens as the first mixed layer reads them.
            is_vision: Which of them are of an image.
            positions: Of the tokens.
            visible: Which keys, cached ones first, each token may read; by default itself and all
                before it.
            cache: Of each mixed layer what it has seen, which this adds to.
        """
        route = Route(is_vision)
        turn = self.language.rotation(positions, x.dtype)
        streams = route.split(x)
        for number, (mixed, layer) in enumerate(zip(self.layers, self._mixed(), strict=True)):
            seen = cache[number] if cache is not None else None
            streams = mixed(layer, streams, route, turn, visible, seen)
        return route.join(self.language.norm(streams[0]), self.last_norm(streams[1]))

    def forward(self, sequences: Sequences) -> Float[Tensor, "batch tokens size"]:
        """Return normed states of texts and images in any layout; heads make logits of them."""
        is_vision = sequences.is_vision
        tokens = is_vision.shape[1]
        positions = torch.arange(tokens, device=is_vision.device)[None]
        visible = None
        if is_vision.any():
            itself = torch.eye(tokens, dtype=torch.bool, device=is_vision.device)
            before = causal(tokens, tokens, device=is_vision.device)
            visible = (before & ~is_vision[:, None]) | itself
        x = self.text_states(sequences.ids, positions, visible=visible)
        if is_vision.any():
            seen = self.embed_vision(sequences.words[is_vision], sequences.signals[is_vision])
            x = x.masked_scatter(is_vision[..., None], seen.to(x.dtype))
        return self.read(x, is_vision, positions)

    def text_logits(self, states: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch texts"]:
        """Return logits of the next text token, by the language model's own head."""
        logits: Tensor = self.language.lm_head(states)
        return logits

    def word_logits(self, states: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch 2 words"]:
        """Return logits of the next word of an image, in each book."""
        return torch.stack([head(states) for head in self.heads], dim=-2)

    def new_cache(self, batch: int) -> list[MixedCache]:
        """Return an empty cache of the mixed layers."""
        empty = self.language.new_cache(batch)
        none = torch.zeros(batch, 0, dtype=torch.bool, device=self.norm.weight.device)
        return [
            MixedCache(plain, LayerCache(plain.keys, plain.values), none)
            for plain in empty[self.design.first :]
        ]

    def _mixed(self) -> list[Any]:
        """Return the language model's layers at which there are images."""
        return list(self.language.layers)[self.design.first :]

    def _start(self, generator: Generator) -> None:
        """Draw what has no start of its own, with the spread that the language model states."""
        spread = self.language.shape.initializer_range
        for module in (*self.embeddings, self.project, *self.heads):
            with torch.no_grad():
                module.weight.normal_(0, spread, generator=generator)
