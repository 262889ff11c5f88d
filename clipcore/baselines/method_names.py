"""The names of the methods, known before one is loaded, and which image towers they fit."""

from typing import Literal, get_args

from clipcore.backbone_names import Kind, UnsupportedBackbone

Name = Literal[
    "zero-shot",
    "sentence-ensemble",
    "label-propagation",
    "zlap",
    "transclip",
    "stata",
    "lp-stata",
    "inmap",
    "unsupervised-gda",
    "lp-gda",
    "fast",
    "self-training",
    "upl",
    "fpl",
    "ifpl",
    "grip",
    "ueo",
    "dpa",
    "lafter-text",
    "lafter",
    "must",
    "deft",
]
"""Methods that no label of an image is given to."""

LabelledName = Literal[
    "gda",
    "linear-probe",
    "tip-adapter",
    "tip-adapter-f",
    "coop",
    "clap",
    "clip-lora",
    "vpt",
    "maple",
]
"""Methods that learn from answers of people."""

NAMES: tuple[str, ...] = get_args(Name)
LABELLED_NAMES: tuple[str, ...] = get_args(LabelledName)
TOWER_NAMES = ("lafter", "must", "deft", "clip-lora", "vpt", "maple")
"""Methods of both kinds that tune the image tower, and see pixels."""

VIT_NAMES = ("clip-lora", "vpt", "maple")
"""Those of them that need the tokens of a ViT."""

FEATURE_NAMES = tuple(name for name in NAMES if name not in TOWER_NAMES)
"""Methods without labels that look at features alone: seconds each."""


def check_tower(name: str, kind: Kind) -> None:
    """Refuse a method that a kind of image tower does not fit.

    Raises:
        UnsupportedBackbone: with the methods that do fit.
    """
    if name in VIT_NAMES and kind != "vit":
        others = ", ".join(one for one in TOWER_NAMES if one not in VIT_NAMES)
        raise UnsupportedBackbone(
            f"{name} changes the tokens or the attention of open_clip's ViT, and this image tower "
            f"comes from timm; {others} tune any tower, and all others look at its features."
        )
