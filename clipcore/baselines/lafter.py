"""LaFTer: a classifier of sentences labels the images, and norms of the image tower learn."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from clipcore.adapters.bottleneck import Bottleneck
from clipcore.augment import strong_view, view_size
from clipcore.baselines.evidence import Evidence, Scores, Taught
from clipcore.baselines.lafter_text import LABEL_SMOOTHING, text_classifier
from clipcore.baselines.tower import (
    BATCH_SIZE,
    STEPS,
    head_network,
    learn,
    num_learned,
    scores_of_network,
    taught_images,
)
from clipcore.network import encode_in_training
from clipcore.seeding import generator

LEARNING_RATE = 1e-3


def lafter(  # noqa: PLR0913  # what tests and data vary
    evidence: Evidence,
    seed: int,
    *,
    text_epochs: int = 20,
    colours: bool = True,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return the scores of a tower and a head that learned what a classifier of sentences says.

    $$\hat y_i = \arg\max_k (E_1 x_i)_k,\quad
        \min_{E, \phi} \sum_i \ell(E\, v_\phi(\text{strong view of } i),\, \hat y_i)$$

    with $E_1$ the classifier of `lafter_text.text_classifier`, $x_i$ the frozen tower's feature of
    the image as it is (the weak view), $\ell$ the cross-entropy with smoothed labels, and $\phi$
    the affine part of the norms with a correction of the feature (`adapters.Bottleneck`), which
    changes nothing at first. $E$ begins as $E_1$. The labels stay, with no threshold: what the
    sentences get wrong of a whole class is learned as well.

    Reference: LaFTer, https://arxiv.org/abs/2305.18287, section 3. It has 50 visual prompts in the
    place of the correction, and sees all images in 50 epochs. Prompts begin as noise, which costs
    six points on a small ViT and which few steps do not make good; they are left out.

    Args:
        evidence: What is seen.
        seed: Of mixtures, first adapter, order and views.
        text_epochs: Passes over the mixtures of sentences.
        colours: Whether a view may change colours; not where these tell classes apart.
        steps: How long, on images.
        batch_size: Images of a step.
        learning_rate: Of AdamW, at the start of the cosine.
    """
    pixels = evidence.load_pixels()
    text = text_classifier(evidence, seed, epochs=text_epochs)
    labels, _ = text.predict(evidence.pool)
    taught = Taught(torch.arange(len(labels)), labels)
    network = head_network(evidence, text)
    visual, device = network.visual, network.head.weight.device
    adapter = Bottleneck.attach(visual, generator=generator(seed, "lafter", "adapter"))
    learned = [*network.head.parameters(), *adapter.parameters()]

    def terms(batch: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        view = strong_view(
            visual.to_input(batch),
            visual.preprocess,
            generator=draws,
            size=view_size(visual),
            flip=pixels.flip,
            colours=colours,
        )
        logits = network.logits(encode_in_training(visual, view))
        return {"loss": F.cross_entropy(logits, labels.to(device), label_smoothing=LABEL_SMOOTHING)}

    optimizer = torch.optim.AdamW(learned, learning_rate, weight_decay=1e-4)
    data = taught_images(taught, pixels.pool)
    learn(optimizer, terms, data, seed=seed, stream="lafter", steps=steps, batch_size=batch_size)
    return scores_of_network(
        network,
        evidence,
        pixels,
        attached=[{"name": "bottleneck"}],
        taught=taught,
        num_parameters=num_learned(learned),
    )
