"""Discrete words of images: lookup-free quantisation of a position's features, in two books.

Of arXiv 2405.10140 with the quantiser of arXiv 2310.05737: a word is the signs of a few numbers, so
that a book of 512 words needs no table. The decoder reconstructs features, not pixels: nothing here
draws.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

BOOKS = 2
BITS = 9
WORDS = 2**BITS
BEGIN, END = WORDS, WORDS + 1
"""Of an image; beside the words in the vocabulary of each book."""
VOCABULARY = WORDS + 2


@dataclass(frozen=True)
class WordLoss:
    """Weights of the losses of lookup-free quantisation, as Libra's code has them."""

    commitment: float = 1.0
    entropy: float = 0.1
    diversity: float = 2.5
    inverse_temperature: float = 100.0


DEFAULT_LOSS = WordLoss()


@dataclass(frozen=True)
class Usage:
    """How much of the books is used: distinct words, and the perplexity of their distribution."""

    used: tuple[int, ...]
    perplexity: tuple[float, ...]


class Words(nn.Module):
    """Features of a position to two words, and back.

    Args:
        dim: Numbers of a feature.
        generator: Of the random start.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, *, generator: Generator) -> None:
        super().__init__()
        self.down = nn.Linear(dim, BOOKS * BITS)
        self.up = nn.Sequential(nn.Linear(BOOKS * BITS, dim), nn.GELU(), nn.Linear(dim, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        for parameter in self.parameters():
            spread = 1 / math.sqrt(parameter.shape[-1])
            with torch.no_grad():
                parameter.uniform_(-spread, spread, generator=generator)

    def standardise(self, features: Float[Tensor, "positions dim"]) -> None:
        """Take the mean and the size of features as they are, before anything is learned."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_((features - self.mean).pow(2).mean().sqrt().clamp_min(1e-6))

    def standardised(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return features around zero, of size one on average."""
        return (features - self.mean) / self.scale

    def numbers(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 2 9"]:
        """Return what is quantised to signs."""
        numbers: Tensor = self.down(self.standardised(features)).unflatten(-1, (BOOKS, BITS))
        return numbers

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch 2"]:
        """Return the word of each book."""
        return words_of(self.numbers(features))

    def reconstruct(self, signs: Float[Tensor, "*batch 2 9"]) -> Float[Tensor, "*batch dim"]:
        """Return features from signs."""
        y: Tensor = self.up(signs.flatten(-2)) * self.scale + self.mean
        return y

    def losses(
        self, features: Float[Tensor, "positions dim"], weights: WordLoss
    ) -> dict[str, Tensor]:
        """Return reconstruction, commitment and entropy terms, and `loss`, their weighted sum."""
        numbers = self.numbers(features)
        signs = signs_of(numbers)
        terms = {
            "reconstruction": F.mse_loss(self.up(signs.flatten(-2)), self.standardised(features)),
            "commitment": F.mse_loss(numbers, signs.detach()),
            "entropy": entropy_loss(numbers, weights),
        }
        loss = (
            terms["reconstruction"]
            + weights.commitment * terms["commitment"]
            + weights.entropy * terms["entropy"]
        )
        return {**terms, "loss": loss}


def signs_of(numbers: Float[Tensor, "*batch 2 9"]) -> Float[Tensor, "*batch 2 9"]:
    """Return -1 or 1 for each number; the gradient passes as if nothing had been done."""
    signs = torch.where(numbers > 0, 1.0, -1.0).to(numbers.dtype)
    return numbers + (signs - numbers).detach()


def words_of(numbers: Float[Tensor, "*batch 2 9"]) -> Int[Tensor, "*batch 2"]:
    """Return the word that each book's signs spell: a bit for each positive number."""
    return ((numbers > 0).long() << torch.arange(BITS, device=numbers.device)).sum(dim=-1)


def signs_of_words(words: Int[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2 9"]:
    """Return the signs that spell words; undoes `words_of`."""
    bits = (words[..., None] >> torch.arange(BITS, device=words.device)) & 1
    return bits.float() * 2 - 1


def entropy_loss(numbers: Float[Tensor, "positions 2 9"], weights: WordLoss) -> Float[Tensor, ""]:
    """Return E[H(p)] - diversity * H(E[p]), over the words of each book.

    A position is asked to be sure of its word, and all positions to use all words. Words are as
    likely as they lie near: p is the softmax of -inverse temperature * squared distance.
    """
    words = torch.arange(WORDS, device=numbers.device)
    every = signs_of_words(words[:, None].expand(-1, BOOKS))[:, 0]
    logits = 2 * weights.inverse_temperature * (numbers @ every.T)
    log_p = logits.log_softmax(dim=-1)
    p = log_p.exp()
    sure = -(p * log_p).sum(dim=-1).mean()
    share = p.mean(dim=0)
    spread = -(share * share.clamp_min(1e-9).log()).sum(dim=-1).mean()
    return sure - weights.diversity * spread


def usage(words: Int[Tensor, "positions 2"]) -> Usage:
    """Return how much of each book some positions use."""
    counts = [torch.bincount(book, minlength=WORDS).double() for book in words.T]
    shares = [count[count > 0] / count.sum() for count in counts]
    return Usage(
        tuple(len(share) for share in shares),
        tuple(float((-(share * share.log()).sum()).exp()) for share in shares),
    )
