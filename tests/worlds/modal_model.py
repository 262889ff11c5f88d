"""A state of images and sounds, after a few steps, with the tower that sees the images."""

from pathlib import Path

import torch
from torch import Tensor

from clipcore.backbone import VisualTower, build_visual
from clipcore.harmony.bundle import save_model
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.stage import learn_stage
from clipcore.harmony.state import State
from tests.worlds.classifier import CONFIG, PREPROCESS
from tests.worlds.modalities import CLASSES, fresh, samples
from tests.worlds.tensors import draws, random_features

WIDTH = 16  # of what the tower of `CONFIG` sees
SOUND = 12


def modal_state(width: int = WIDTH) -> State:
    """Return what knows photos, features of some width, and sounds."""
    labels = torch.arange(60) % len(CLASSES)
    photos = random_features(60, width, seed=5)
    state = learn_stage(
        fresh(), "photo", [(photos, labels)], method=Harmony(), seed=0, steps=5, batch_size=8
    )
    sounds = [samples("sound")]
    return learn_stage(state, "sound", sounds, method=Harmony(), seed=0, steps=5, batch_size=8)


def sounds(count: int = 3) -> Tensor:
    """Return inputs that look like sound."""
    return samples("sound", count, seed=1)[0]


def tower(seed: int = 0) -> VisualTower:
    """Return a tower whose weights follow from the seed."""
    made, generator = build_visual(CONFIG, PREPROCESS), draws(seed)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return made.requires_grad_(requires_grad=False).eval()


def save_modal_model(folder: Path) -> Path:
    """Write a model of photos and sounds."""
    towers = [(tower(), CONFIG, {})]
    save_model(folder, modal_state(), towers, {"photo": 0}, {"stage": 2})
    return folder
