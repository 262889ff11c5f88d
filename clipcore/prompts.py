"""Learned prompts: a positive and a negative sentence per class, sharing their contexts."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from clipcore.backbone import Backbone, TextTower

INITIAL_STD = 0.02  # CoOp's and DeFT's
FIRST_WORDS = "a photo of a"  # where contexts that begin as words begin
BYTES_PER_CHANNEL = 76  # peak memory of a transformer block per token and channel, in fp32

MEMORY_ON_CPU_MB = 2048
SHARE_OF_FREE_MEMORY = 0.25  # of a GPU, which two peers may share


class ContextTooLong(ValueError):
    """A class name and the learned context do not fit the text tower together."""


class DualPrompts(nn.Module):
    r"""Positive and negative prompts $[V^\pm_1 \dots V^\pm_M][\text{CLS}]_k$ of every class.

    All classes share the two contexts, one of each sign (CoFT Eq. 2 and 3); the class name comes
    last. Only `positive_context` and `negative_context` are trained. Both signs pass through the
    text tower together, cut to the longest prompt. When the activations of all prompts would
    exceed the memory budget, classes are encoded in chunks that are recomputed in the backward
    pass, so that memory does not grow with the number of classes; the values stay the same.

    Args:
        backbone: The CLIP whose text tower encodes the prompts; its weights are not trained.
        classes: Class names; underscores are read as spaces.
        generator: Source of the initial contexts.
        num_context_tokens: Length M of each context.
        memory_mb: Budget for activations, in MiB; by default `default_memory_mb`.

    Raises:
        ContextTooLong: the longest name and the context exceed the tower's context length.
    """

    start: Tensor
    names: Tensor
    ends: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str],
        *,
        generator: Generator,
        num_context_tokens: int = 16,
        memory_mb: int | None = None,
    ) -> None:
        super().__init__()
        self._text = [backbone.text]  # in a list: its weights are not this module's
        self._quick_text: list[TextTower] = []
        tokens = backbone.tokenize([f"{name.replace('_', ' ')}." for name in classes])
        name_ends = tokens.argmax(dim=1)
        longest = int(name_ends.max())
        self._check_length(backbone, classes[int(name_ends.argmax())], longest, num_context_tokens)
        with torch.no_grad():
            words = backbone.text.token_embedding(tokens[:, : longest + 1])
        self.register_buffer("start", words[:1, :1].clone(), persistent=False)
        self.register_buffer("names", words[:, 1:].clone(), persistent=False)
        self.register_buffer("ends", name_ends + num_context_tokens, persistent=False)
        shape = (num_context_tokens, backbone.text.width)
        self.positive_context = _new_context(shape, generator, backbone.device)
        self.negative_context = _new_context(shape, generator, backbone.device)
        budget = default_memory_mb(backbone.device) if memory_mb is None else memory_mb
        self.prompts_per_chunk = self._fit_budget(budget)

    def forward(self) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "classes dim"]]:
        """Return the normalised (positive, negative) embedding of every class."""
        positive, negative = torch.cat(self._in_chunks(self._encode), dim=1)
        return positive, negative

    def encode_with(
        self,
        context: Float[Tensor, "tokens width"],
        *,
        deep_context: Float[Tensor, "blocks tokens width"] | None = None,
    ) -> Float[Tensor, "classes dim"]:
        """Return the normalised embedding of every class after a context of the caller.

        Args:
            context: Embeddings of at most `num_context_tokens` tokens.
            deep_context: Contexts of the blocks after the first; see `TextTower.encode_embedded`.
        """
        shorter = len(self.positive_context) - len(context)

        def encode(start: int, count: int) -> Tensor:
            rows = slice(start, start + count)
            sentences = self._sentences(context, self.names[rows])
            ends = self.ends[rows] - shorter
            return self._features(sentences, ends, deep_context=deep_context)

        return torch.cat(self._in_chunks(encode))

    def _in_chunks(self, encode: Callable[[int, int], Tensor]) -> list[Tensor]:
        """Return the results of `encode(start, count)` over chunks of classes within the budget."""
        num_classes = len(self.names)
        size = max(1, self.prompts_per_chunk // 2)
        starts = range(0, num_classes, size)
        if size >= num_classes or not torch.is_grad_enabled():
            return [encode(start, size) for start in starts]
        return [
            checkpoint(encode, start, size, use_reentrant=False, context_fn=_same_attention)
            for start in starts
        ]

    def _encode(self, start: int, count: int) -> Float[Tensor, "2 chunk dim"]:
        """Encode both signs of the classes [start, start + count) in one pass."""
        names = self.names[start : start + count]
        ends = self.ends[start : start + count]
        sentences = [
            self._sentences(context, names)
            for context in (self.positive_context, self.negative_context)
        ]
        features = self._features(torch.cat(sentences), torch.cat([ends, ends]))
        return features.reshape(2, len(names), -1)

    def _features(
        self, sentences: Tensor, ends: Tensor, *, deep_context: Tensor | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Return normalised features of sentences.

        Under autocast a copy of the tower in that type reads them: autocast itself would cast the
        frozen weights and half of the activations in every step.
        """
        device = self.names.device.type
        if not torch.is_autocast_enabled(device):
            features = self._text[0].encode_embedded(sentences, ends, deep_context=deep_context)
            return F.normalize(features.float(), dim=1)
        if not self._quick_text:
            self._quick_text.append(self._text[0].frozen_copy(torch.get_autocast_dtype(device)))
        with torch.autocast(device, enabled=False):
            (text,) = self._quick_text
            features = text.encode_embedded(sentences, ends, deep_context=deep_context)
        return F.normalize(features.float(), dim=1)

    def _sentences(self, context: Tensor, names: Tensor) -> Float[Tensor, "chunk tokens width"]:
        parts = (self.start.expand(len(names), -1, -1), context.expand(len(names), -1, -1), names)
        return torch.cat(parts, dim=1)

    def _fit_budget(self, memory_mb: int) -> int:
        """Return how many prompts may keep their activations at once; all, if they fit."""
        blocks = len(self._text[0].transformer.resblocks)
        length = 1 + len(self.positive_context) + self.names.shape[1]
        per_prompt = blocks * length * self._text[0].width * BYTES_PER_CHANNEL
        within_budget = max(2, memory_mb * 2**20 // per_prompt)
        return min(within_budget, 2 * len(self.names))

    @staticmethod
    def _check_length(backbone: Backbone, name: str, longest: int, num_context_tokens: int) -> None:
        room = backbone.text.context_length - longest - 1
        if num_context_tokens > room:
            raise ContextTooLong(
                f"{num_context_tokens} context tokens and the longest class name ({name!r}) need "
                f"{longest + 1 + num_context_tokens} positions, the text tower has "
                f"{backbone.text.context_length}. Shorten the name or take at most "
                f"{max(0, room)} context tokens."
            )


def word_embeddings(backbone: Backbone, words: str) -> Float[Tensor, "tokens width"]:
    """Return what the text tower reads for the first words of a sentence, on the CPU."""
    tokens = backbone.tokenize([words])
    count = int(tokens.argmax(dim=1)) - 1
    with torch.no_grad():
        found: Tensor = backbone.text.token_embedding(tokens[0, 1 : 1 + count])
    return found.cpu()


def default_memory_mb(device: torch.device) -> int:
    """Return the budget for activations: a quarter of what is free on a GPU, 2 GiB on a CPU."""
    if device.type != "cuda":
        return MEMORY_ON_CPU_MB
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * SHARE_OF_FREE_MEMORY) // 2**20


def _same_attention() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Recompute with the attention kernel of the forward pass; checkpoint restores autocast."""
    plain = not torch.backends.cuda.flash_sdp_enabled()  # for every device, in spite of its name
    return nullcontext(), sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _new_context(
    shape: tuple[int, int], generator: Generator, device: torch.device
) -> nn.Parameter:
    return nn.Parameter((torch.randn(shape, generator=generator) * INITIAL_STD).to(device))
