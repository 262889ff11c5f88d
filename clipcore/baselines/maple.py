"""MaPLe: words, and prompts of the image tower that are maps of them, learned from answers."""

import torch

from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores
from clipcore.baselines.method_names import check_tower
from clipcore.baselines.tower import (
    BATCH_SIZE,
    STEPS,
    head_network,
    learn_labels,
    num_learned,
    scores_of_network,
    taught_images,
)
from clipcore.image_sides import TowerWithAdapter
from clipcore.network import new_network
from clipcore.prompts import DualPrompts
from clipcore.seeding import generator
from clipcore.text_sides import couple

NUM_CONTEXT_TOKENS, DEPTH = 2, 9
LEARNING_RATE = 3.5e-3


def maple(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
    depth: int = DEPTH,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return the scores of both towers with coupled prompts that answers taught.

    $$p(k \mid x) \propto \exp(s\, v_{\tilde P}(x)^T g_P(\text{name}_k)),\quad
        \tilde P_i = F_i(P_i)$$

    with words $P_i$ of its own in each of the first blocks of the text tower, a linear map $F_i$ of
    them into the same block of the image tower (`text_sides.CoupledPrompts`), and the loss of
    `tower.learn_labels`. Without any answer nothing learns, and zero-shot is what is left.

    Reference: MaPLe, https://arxiv.org/abs/2210.03117, section 3.2 (two tokens, nine blocks). It
    takes SGD, batches of four and a rate of 3.5e-3, here that of AdamW.

    Args:
        evidence: What is seen.
        answers: What is known.
        seed: Of the first words and maps, the order and the views of the images.
        num_context_tokens: Words of a block.
        depth: Blocks with words, at most as many as both towers have.
        steps: How long.
        batch_size: Images of a step.
        learning_rate: Of AdamW, at the start of the cosine.

    Raises:
        UnsupportedBackbone: the image tower is no ViT.
        ContextTooLong: a class name and the words do not fit the text tower together.
    """
    check_tower("maple", evidence.load_backbone().visual.kind)
    pixels, taught, scale = evidence.load_pixels(), answered(answers), evidence.logit_scale
    if not len(taught.positions):
        network = head_network(evidence, evidence.zero_shot)
        return scores_of_network(network, evidence, pixels, num_parameters=0)
    backbone = evidence.load_backbone().own_copy()
    draws = generator(seed, "maple", "prompts")
    sentences = DualPrompts(
        backbone, evidence.classes, generator=draws, num_context_tokens=num_context_tokens
    )
    text, visual = couple(
        backbone, sentences, generator=draws, num_context_tokens=num_context_tokens, depth=depth
    )
    learned = [text.contexts, text.maps, text.shifts]
    learn_labels(
        TowerWithAdapter(backbone.visual, visual, flip=pixels.flip),
        text.positive,
        scale,
        learned,
        taught_images(taught, pixels.pool),
        seed=seed,
        stream="maple",
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.0,
    )
    visual.merge()
    with torch.no_grad():
        embeddings = text.positive()
    size = {"num_visual_prompts": num_context_tokens, "depth": len(text.contexts)}
    return scores_of_network(
        new_network(backbone.visual, embeddings, scale),
        evidence,
        pixels,
        attached=[{"name": "vpt", **size}],
        num_parameters=num_learned(learned),
    )
