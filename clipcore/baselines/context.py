"""Words learned in front of the class names, on cached features (CoOp): what prompt methods share.

Every method that learns words trains them in the same way, so that they differ in what they learn
from alone. The papers take SGD and thousands of steps; AdamW gets as far in a hundred. The words
begin as "a photo of a", one of CoOp's two starts: the other one, 16 words of noise, costs twice as
much and takes many more steps to be as good as the sentence.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.backbone import Backbone
from clipcore.baselines.evidence import Evidence, Taught
from clipcore.fit import Schedule, TrainingSet, cycled, fit, loader
from clipcore.head import Head
from clipcore.losses import scaled_similarity
from clipcore.prompts import FIRST_WORDS, DualPrompts, word_embeddings
from clipcore.seeding import derive_seed, generator

NUM_CONTEXT_TOKENS = 4
STEPS = 100
BATCH_SIZE = 256  # the text tower takes the time of a step, whatever the number of images
LEARNING_RATE = 5e-3

ContextLoss = Callable[[Tensor, Tensor], Tensor]
"""(class embeddings, positions of a batch) in, the loss out."""


class Words(NamedTuple):
    """Class embeddings of learned words, and how many numbers the words are."""

    embeddings: Float[Tensor, "classes dim"]
    num_parameters: int


def learn_context(  # noqa: PLR0913  # what is learned, from what, and how long
    evidence: Evidence,
    loss: ContextLoss,
    num_samples: int,
    *,
    draws: Generator,
    seed: int,
    steps: int = STEPS,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
    learning_rate: float = LEARNING_RATE,
    beside: Iterable[nn.Parameter] = (),
) -> Words:
    """Minimise a loss over one context that all classes share; the class name comes last.

    Args:
        evidence: Its backbone reads the words and does not learn.
        loss: What is minimised.
        num_samples: Positions are drawn below it.
        draws: Noise, of which words begin.
        seed: Of the order of the samples.
        steps: How long.
        num_context_tokens: How many words; beyond those of `FIRST_WORDS` they begin as noise.
        learning_rate: Of AdamW, at the start of the cosine.
        beside: What learns together with the words.

    Raises:
        ContextTooLong: a class name and the words do not fit the text tower together.
    """
    backbone = evidence.load_backbone()
    prompts = DualPrompts(
        backbone,
        evidence.classes,
        generator=draws,
        num_context_tokens=num_context_tokens,
    )
    context, device = _begin(backbone, prompts), evidence.pool.device
    optimizer = torch.optim.AdamW([context, *beside], learning_rate, weight_decay=0.0)

    def terms(rows: Tensor, _labels: Tensor, _draws: Generator) -> dict[str, Tensor]:
        return {"loss": loss(prompts.encode_with(context).to(device), rows)}

    data = TrainingSet(torch.arange(num_samples), loader(lambda rows: rows))
    schedule = Schedule(epochs=1, batch_size=BATCH_SIZE, seed=seed, stream="words")
    batches = cycled(num_samples, batch_size=BATCH_SIZE, steps=steps)
    list(fit(optimizer, terms, data, schedule, epochs=range(1), batches=batches))
    with torch.no_grad():
        return Words(prompts.encode_with(context).to(device), context.numel())


def _begin(backbone: Backbone, prompts: DualPrompts) -> nn.Parameter:
    """Put the first words in place of the first tokens of the positive context; return it."""
    context = prompts.positive_context
    words = word_embeddings(backbone, FIRST_WORDS)[: len(context)]
    with torch.no_grad():
        context[: len(words)] = words.to(context.device)
    return context


def learn_words(
    evidence: Evidence,
    taught: Taught,
    *,
    seed: int,
    stream: str,
    steps: int = STEPS,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> tuple[Head, int]:
    r"""Return the head that words end in which minimise $-\log p(y_i \mid x_i)$ (CoOp Eq. 2 and 3).

    Also returned: how many numbers have learned. Where nothing is taught the head is zero-shot's.
    """
    if not len(taught.positions):
        return evidence.zero_shot, 0
    x, y = evidence.pool[taught.positions], taught.labels

    def loss(embeddings: Tensor, rows: Tensor) -> Tensor:
        logits = scaled_similarity(x[rows], embeddings, evidence.logit_scale)
        return F.cross_entropy(logits, y[rows])

    words = learn_context(
        evidence,
        loss,
        len(y),
        draws=generator(seed, stream, "words"),
        seed=derive_seed(seed, stream),
        steps=steps,
        num_context_tokens=num_context_tokens,
    )
    return Head(words.embeddings, evidence.logit_scale), words.num_parameters
