"""A real classifier of the smallest ViT that open_clip builds: random weights, three classes."""

from pathlib import Path

import torch

from clipcore.backbone import build_visual
from clipcore.classifier import save_classifier
from clipcore.images import Preprocess
from clipcore.network import Network

CLASSES = ("ant", "bee", "cat")
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 16,
        "patch_size": 8,
        "layers": 2,
        "width": 32,
        "head_width": 16,
    },
}
PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def save_tiny_classifier(folder: Path, *, seed: int = 0, members: int = 2) -> Path:
    """Write a bundle whose weights follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(members):
        network = Network(build_visual(CONFIG, PREPROCESS), num_classes=len(CLASSES), dim=16)
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
        states.append(network.state_dict())
    save_classifier(
        folder,
        states,
        classes=CLASSES,
        config=CONFIG,
        preprocess=PREPROCESS,
        facts={"seed": seed},
    )
    return folder
