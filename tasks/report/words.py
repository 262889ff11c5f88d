"""What the report says in words: quantities, reasons, stages and a glossary for non-specialists."""

from collections.abc import Mapping
from typing import NamedTuple

from tasks.refs import Reason, StageName


class Quantity(NamedTuple):
    """A number of a training history or of the health of a model."""

    name: str
    meaning: str
    is_share: bool = False


class StageWords(NamedTuple):
    """What a stage does, and what makes it faster; empty where nothing is known to."""

    purpose: str
    advice: str = ""


HEALTH: Mapping[str, Quantity] = {
    "agreement": Quantity(
        "Agreement", "share of images that both networks put in the same class", is_share=True
    ),
    "kept_share": Quantity(
        "Kept share", "share of proposed labels that the other peer kept", is_share=True
    ),
    "min_class_kept_share": Quantity(
        "Kept share, worst class", "kept share of the class that kept least", is_share=True
    ),
    "drift": Quantity(
        "Class-balance drift",
        "share of all images by which the class balance moved from that of zero-shot",
        is_share=True,
    ),
    "lost_classes": Quantity(
        "Lost classes", "classes that zero-shot predicts and the model hardly ever does"
    ),
    "gap_separation": Quantity(
        "Gap separation", "mean gap of kept labels minus that of rejected ones; above 0 is good"
    ),
}
"""The fields of `clipcore.health.Health`."""

HISTORY: Mapping[str, Quantity] = {
    "loss": Quantity("Loss", "what training makes small; all terms together"),
    "l1": Quantity("L1, class loss", "how well the positive prompts tell the classes apart"),
    "l2": Quantity(
        "L2, dual-prompt loss", "how well positive and negative prompts tell right from wrong"
    ),
    "cross_entropy": Quantity("Cross-entropy", "how well the network fits the kept labels"),
    "consistency": Quantity(
        "Consistency", "how far the network is from what its slow average is sure of"
    ),
    "contrast": Quantity(
        "Contrast", "how hard it is to find an image again by another view of it; labels unused"
    ),
}
"""The numbers of a row of a training history that are drawn."""

NOT_DRAWN = ("phase", "peer", "round", "epoch", "seconds")
"""The other keys of a row: which epoch it is of, and how long that took."""

REASONS: Mapping[str, str] = {
    Reason.KEPT: "kept",
    Reason.ANSWERED: "answered by a person",
    Reason.NONE_FITS: "none of the classes, says a person",
    Reason.HELD_OUT: "held out for the guard of the fine-tuning",
    Reason.REJECTED: "the other peer takes it for wrong",
    Reason.RESCUED: "kept after all: its class kept too few",
    Reason.NOT_CONFIDENT: "not among the most confident of its class",
    Reason.CLASS_NOT_PREDICTED: "taken for a class that no image was predicted as",
}

SOURCES: Mapping[str, str] = {
    "zero-shot": "Zero-shot",
    "confident": "Confident set",
    "neighbours": "Labels by neighbours",
}

QUARANTINE_REASONS: Mapping[str, str] = {
    "empty-file": "the file has no content",
    "not-an-image": "the content is in no image format that is read",
    "truncated": "the image ends too early, as after a broken download",
    "unsupported-sample-format": "nothing says which of its values are black and white; convert it",
    "extreme-aspect-ratio": "one side is over 100 times the other one; not decoded",
    "no-decoder": "a package that would read it is not installed",
    "out-of-memory": "there was no memory left to decode it",
    "too-many-pixels": "more pixels than the limit; not decoded",
    "too-large-file": "more bytes than the limit; not read",
    "unreadable": "the file could not be opened or read",
    "decode-error": "the image decoder failed",
}

STAGES: Mapping[StageName, StageWords] = {
    StageName.POOL: StageWords(
        "list the files, check their headers, find duplicates",
        "keep the images in one Parquet file, or close to this machine",
    ),
    StageName.EMBED: StageWords(
        "turn every image into a vector", "use a GPU, or more cores and --num-actors"
    ),
    StageName.LABEL: StageWords(
        "first labels from the class names alone, and the most confident of each class",
        "use fewer --label.templates",
    ),
    StageName.PHASE_1: StageWords(
        "Phase I: train prompts and a light adapter, twice",
        "use a GPU, or lower --phase1.min-steps and --phase1.epochs",
    ),
    StageName.EMBED_WITH_PEERS: StageWords(
        "turn every image into a vector again, as each peer sees it",
        "use a GPU, or more cores and --num-actors",
    ),
    StageName.CROSS_FILTER: StageWords(
        "each peer labels the images, the other keeps or rejects", "use more cores"
    ),
    StageName.PHASE_2: StageWords(
        "Phase II: fine-tune the whole visual tower, twice",
        "use a GPU, or lower --phase2.epochs",
    ),
    StageName.GUARD: StageWords("choose among the epochs of Phase II by what they predict"),
    StageName.PREDICT: StageWords(
        "label every image with the adapted model", "use a GPU, or more cores and --num-actors"
    ),
    StageName.EVALUATE: StageWords("compare the predictions with labels, where there are some"),
}

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Accuracy", "Share of the measured images whose predicted class is their true class."),
    (
        "Backbone",
        "The pretrained model that a run starts from. It has seen many images with captions, "
        "and compares an image with a text.",
    ),
    (
        "Calibration error",
        "Mean distance between how sure the model says it is and how often it is right. "
        "0 is perfect.",
    ),
    ("Clean set", "The labels that the cross-filter kept. Phase II trains on them."),
    ("Confidence", "How sure a model is of its label, from 0 to 100 %."),
    ("Cross-filter", "One peer proposes a label for each image; the other keeps or rejects it."),
    (
        "Gap",
        "How much closer an image is to “shows this class” than to “does not show this class”, "
        "in the eyes of the other peer. Above zero: kept.",
    ),
    ("Health", "Signs, read without any label, that the adapted model can be trusted."),
    (
        "Peer",
        "One of two models that are trained alike from different starting points, so that each "
        "can catch the other's mistakes.",
    ),
    (
        "Phase I, Phase II",
        "Phase I trains few parameters on the confident set. Phase II trains the whole visual "
        "tower on the clean set.",
    ),
    ("Precision", "Of the images that were given a class, the share that is of that class."),
    ("Pseudo-label", "A label that a model gave. Nobody has checked it."),
    ("Quarantine", "Files that could not be used. They are listed, and they never stop a run."),
    ("Recall", "Of the images that are of a class, the share that was found."),
    ("Transductive", "Measured on the same images that the model was adapted to."),
    ("Zero-shot", "The backbone used as it is, with nothing but the names of the classes."),
)


def epoch_quantity(key: str) -> Quantity:
    """Return what a key of a training history means, spelled out if another version wrote it."""
    return HISTORY.get(key) or Quantity(key.replace("_", " ").capitalize(), "")


def reason(slug: str) -> str:
    """Return why a label was kept or not, spelled out if another version wrote it."""
    return REASONS.get(slug) or _spell(slug)


def quarantine_reason(slug: str) -> str:
    """Return why a file could not be used, spelled out if another version wrote it."""
    return QUARANTINE_REASONS.get(slug) or _spell(slug)


def source(slug: str) -> str:
    """Return who gave a label, as a person says it: `peer-1` is Peer 1."""
    for name in ("confident", "neighbours"):
        if (of_round := slug.removeprefix(f"{name}-")) != slug:
            return f"{SOURCES[name]}, {_spell(of_round)}"
    return SOURCES.get(slug) or _spell(slug).capitalize()


def _spell(slug: str) -> str:
    return slug.replace("-", " ")
