"""A CLIP with the text tower of ViT-B/32, random weights and next to no image tower; class names.

What prompt tuning costs depends on the sizes of the text tower, not on what it has learned.
"""

from typing import Any

import open_clip

from clipcore.backbone import Backbone

THINGS = """
apple, bear, bicycle, bottle, bridge, bus, candle, castle, chair, church, clock, cup, desk, door,
drum, elephant, fish, flute, fountain, frog, guitar, hammer, horse, house, kettle, lamp, lion,
mushroom, orange, owl, piano, pizza, rabbit, rose, shark, ship, shoe, spider, spoon, swan, table,
tiger, train, truck, violin, volcano, wolf, zebra, soft-coated wheaten terrier,
black-and-white colobus monkey
"""
KINDS = """
ancient, big, black, blue, broken, brown, clean, dark, golden, green, heavy, old, painted, pale,
red, round, shiny, small, white, wooden
"""


def class_names(count: int) -> list[str]:
    """Return distinct class names, two of the first fifty as long as ImageNet's longest."""
    things, kinds = ([name.strip() for name in text.split(",")] for text in (THINGS, KINDS))
    return [*things, *(f"{kind} {thing}" for kind in kinds for thing in things)][:count]


def random_clip(*, quick: bool) -> Backbone:
    """Return a frozen CLIP on the CPU; `quick` takes a text tower of two narrow blocks."""
    text = {"width": 64, "heads": 2, "layers": 2} if quick else {}
    config: dict[str, Any] = {
        "embed_dim": 512,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "patch_size": 16,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 12,
            **text,
        },
    }
    model = open_clip.CLIP(**config)
    preprocess = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model.visual.preprocess_cfg = preprocess
    return Backbone(model, name="random", config=config).requires_grad_(requires_grad=False).eval()
