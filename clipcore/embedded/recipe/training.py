"""Train the two towers and write them in open_clip's format."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Generator, Tensor

from clipcore.embedded.recipe.captions import tokenize_captions
from clipcore.embedded.recipe.render import degrade, render_characters, to_pixels
from clipcore.seeding import generator

VISION_CFG: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "width": 128,
    "layers": 4,
    "head_width": 32,
}
# The whole vocabulary of CLIP takes 6 MB at this width; 32 places hold 16 context tokens, a name
# and the two ends.
TEXT_CFG: dict[str, Any] = {
    "context_length": 32,
    "vocab_size": 49408,
    "width": 64,
    "heads": 2,
    "layers": 2,
}
MODEL_CFG = {"embed_dim": 128, "vision_cfg": VISION_CFG, "text_cfg": TEXT_CFG}
PREPROCESS_CFG = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

STEPS = 2000
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
MAX_LOG_LOGIT_SCALE = math.log(50)

OnStep = Callable[[int, float], None]


def train(
    seed: int = 0,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    on_step: OnStep = lambda _step, _loss: None,
) -> dict[str, Tensor]:
    """Train from scratch on printed characters; return the weights, fp16, of the whole vocabulary.

    Equal arguments give equal weights, bit for bit, on one machine with one thread. The text
    tower is trained on the tokens that captions use, renumbered in the order of their ids (the end
    token stays the highest, where CLIP reads the text feature); all others get a zero embedding.
    """
    tokens = tokenize_captions(TEXT_CFG["context_length"])
    used, captions = tokens.unique(return_inverse=True)
    model = _build(len(used), generator(seed, "glyph", "weights"))
    glyphs, rng = render_characters(), generator(seed, "glyph", "data")
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    for step in range(steps):
        font, label = (torch.randint(n, (batch_size,), generator=rng) for n in glyphs.shape[:2])
        pixels = to_pixels(degrade(glyphs[font, label], rng))
        loss = _loss_of_batch(model, pixels, label, _draw(captions, rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOG_LOGIT_SCALE)
        on_step(step, loss.item())
    return _export(model, used)


def contrastive_loss(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    r"""Return CLIP's symmetric loss for a batch in which images share captions.

    With $s_{ik}$ the scaled similarity of image $i$ and distinct caption $k$, and $y_i$ the caption
    of image $i$,

    $$L = -\frac{1}{2B} \sum_{i=1}^{B} \Big( \log \frac{e^{s_{i y_i}}}{\sum_k e^{s_{ik}}}
        + \log \frac{e^{s_{i y_i}}}{\sum_j e^{s_{j y_i}}} \Big)$$

    Equal captions stand in it once, so none is the negative of another; a caption of several
    images has all of them as positives. With one image a caption, it is the loss of CLIP
    (https://arxiv.org/abs/2103.00020, figure 3).
    """
    image_to_text = logits.log_softmax(dim=1).gather(1, labels[:, None])
    text_to_image = logits.log_softmax(dim=0).gather(1, labels[:, None])
    return -(image_to_text + text_to_image).mean() / 2


def save(weights: dict[str, Tensor], folder: Path) -> None:
    """Write weights and configuration in open_clip's `local-dir:` layout."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, folder / "open_clip_model.safetensors")


def _rate(step: int, steps: int) -> float:
    """Return the factor of the learning rate: warm-up over a tenth, and a cosine towards 0."""
    return min(1.0, (step + 1) / (0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _build(vocab_size: int, rng: Generator) -> open_clip.CLIP:
    """Return an untrained CLIP whose weights come from `rng`, not from the global generator."""
    text_cfg = TEXT_CFG | {"vocab_size": vocab_size}
    model = open_clip.CLIP(MODEL_CFG["embed_dim"], VISION_CFG, text_cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _initialize(name, parameter, rng)
    return model


def _initialize(name: str, parameter: Tensor, rng: Generator) -> None:
    """Draw matrices at 1 / sqrt(inputs), embeddings at 0.02; norms and scale stay as built."""
    if name.endswith("bias"):
        parameter.zero_()
    elif "embedding" in name:
        parameter.normal_(0, 0.02, generator=rng)
    elif name in ("visual.proj", "text_projection"):  # stored as (in, out), unlike linear layers
        parameter.normal_(0, parameter.shape[0] ** -0.5, generator=rng)
    elif parameter.ndim > 1:
        parameter.normal_(0, parameter[0].numel() ** -0.5, generator=rng)


def _draw(
    captions: Int[Tensor, "templates characters context"], rng: Generator
) -> Int[Tensor, "characters context"]:
    """Choose one caption of each character, its template at random."""
    templates, characters = captions.shape[:2]
    return captions[
        torch.randint(templates, (characters,), generator=rng), torch.arange(characters)
    ]


def _loss_of_batch(
    model: open_clip.CLIP,
    pixels: Float[Tensor, "batch 3 16 16"],
    labels: Int[Tensor, " batch"],
    captions: Int[Tensor, "characters context"],
) -> Float[Tensor, ""]:
    image_features = model.encode_image(pixels, normalize=True)
    text_features = model.encode_text(captions, normalize=True)
    return contrastive_loss(model.logit_scale.exp() * image_features @ text_features.T, labels)


def _export(model: open_clip.CLIP, used: Int[Tensor, " tokens"]) -> dict[str, Tensor]:
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    trained = weights["token_embedding.weight"]
    whole = trained.new_zeros(TEXT_CFG["vocab_size"], trained.shape[1])
    whole[used] = trained
    return weights | {"token_embedding.weight": whole}
