"""CLIP-LoRA: low-rank updates of the attention in both towers, learned from answers."""

import torch

from clipcore.adapters.lora import Lora
from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores
from clipcore.baselines.method_names import check_tower
from clipcore.baselines.tower import (
    BATCH_SIZE,
    STEPS,
    learn_labels,
    num_learned,
    scores_of_network,
    taught_images,
)
from clipcore.image_sides import TowerWithAdapter
from clipcore.network import new_network
from clipcore.prompts import FIRST_WORDS, DualPrompts, word_embeddings
from clipcore.seeding import generator

RANK, ALPHA = 2, 1.0
LEARNING_RATE = 3e-3


def clip_lora(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    rank: int = RANK,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return the scores of both towers with updates $\frac{\alpha}{r} B A$ that answers taught.

    $$p(k \mid x) \propto \exp(s\, v_\theta(x)^T g_\theta(\text{a photo of a name}_k)),\quad
        W_\theta = W + \frac{\alpha}{r} B A$$

    for $W$ the projections of queries, keys and values in every block of both towers, with the loss
    of `tower.learn_labels`. $B$ begins as zero: before the first step this is CLIP with one
    sentence a class. Without any answer it stays so.

    Reference: CLIP-LoRA, https://arxiv.org/abs/2405.18541, section 3 (rank 2, $\alpha = 1$, AdamW
    with weight decay 0.01, batches of 32). It takes 500 steps for each shot at a rate of 2e-4; here
    there are few, at a higher rate. Its dropout of a projection's input (0.25) is left out: updates
    are added to the weights.

    Args:
        evidence: What is seen.
        answers: What is known.
        seed: Of $A$, the order and the views of the images.
        rank: $r$.
        steps: How long.
        batch_size: Images of a step.
        learning_rate: Of AdamW, at the start of the cosine.

    Raises:
        UnsupportedBackbone: the image tower is no ViT.
    """
    check_tower("clip-lora", evidence.load_backbone().visual.kind)
    pixels, backbone = evidence.load_pixels(), evidence.load_backbone().own_copy(text=True)
    draws = generator(seed, "clip-lora", "updates")
    words = word_embeddings(backbone, FIRST_WORDS)
    sentences = DualPrompts(
        backbone, evidence.classes, generator=draws, num_context_tokens=len(words)
    )
    words = words.to(backbone.device)
    transformers = (backbone.visual.network.transformer, backbone.text.transformer)
    updates = [
        Lora.on(one, generator=draws, rank=rank, alpha=ALPHA, keys=True) for one in transformers
    ]
    learned = [parameter for one in updates for parameter in one.parameters()]
    learn_labels(
        TowerWithAdapter(backbone.visual, updates[0], flip=pixels.flip),
        lambda: sentences.encode_with(words),
        backbone.logit_scale,
        learned,
        taught_images(answered(answers), pixels.pool),
        seed=seed,
        stream="clip-lora",
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.01,
    )
    for one in updates:
        one.merge()
    with torch.no_grad():
        embeddings = sentences.encode_with(words)
    network = new_network(backbone.visual, embeddings, backbone.logit_scale)
    return scores_of_network(network, evidence, pixels, num_parameters=num_learned(learned))
