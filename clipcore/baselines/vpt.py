"""VPT: tokens that every block of the image tower reads, learned from answers."""

from clipcore.adapters.vpt import VisualPrompts
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
from clipcore.seeding import generator

NUM_PROMPTS = 20
LEARNING_RATE = 1e-2


def vpt(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    num_prompts: int = NUM_PROMPTS,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return the scores of zero-shot's texts and a tower with prompts that answers taught.

    $$p(k \mid x) \propto \exp(s\, v_P(x)^T t_k),\quad
        [c_{i+1}, \_, E_{i+1}] = L_{i+1}([c_i, P_i, E_i])$$

    with prompts $P_i$ of its own for each block $L_{i+1}$, and the loss of `tower.learn_labels`.

    Prompts begin as noise. Without any answer none are put on: this is zero-shot.

    Reference: VPT, https://arxiv.org/abs/2203.12119, Eq. 5 and 6 (deep). It learns a new linear
    head; that of CLIP is its texts, which stay. It trains 100 epochs with SGD, at rates that are
    searched for.

    Args:
        evidence: What is seen.
        answers: What is known.
        seed: Of the first prompts, the order and the views of the images.
        num_prompts: Tokens of a block.
        steps: How long.
        batch_size: Images of a step.
        learning_rate: Of AdamW, at the start of the cosine.

    Raises:
        UnsupportedBackbone: the image tower is no ViT.
    """
    check_tower("vpt", evidence.load_backbone().visual.kind)
    pixels, taught = evidence.load_pixels(), answered(answers)
    network = head_network(evidence, evidence.zero_shot)
    visual, text = network.visual, evidence.text.to(network.head.weight.device)
    if not len(taught.positions):
        return scores_of_network(network, evidence, pixels, num_parameters=0)
    prompts = VisualPrompts.attach(
        visual, generator=generator(seed, "vpt", "prompts"), num_prompts=num_prompts
    )
    learn_labels(
        TowerWithAdapter(visual, prompts, flip=pixels.flip),
        lambda: text,
        evidence.logit_scale,
        list(prompts.parameters()),
        taught_images(taught, pixels.pool),
        seed=seed,
        stream="vpt",
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.0,
    )
    return scores_of_network(
        network,
        evidence,
        pixels,
        attached=[{"name": "vpt", "num_visual_prompts": num_prompts}],
        num_parameters=num_learned(list(prompts.parameters())),
    )
