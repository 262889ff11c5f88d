"""What the report says in words: quantities, reasons, advice and a glossary for non-specialists."""

from collections.abc import Mapping

from tasks.refs import Reason

# A key of history.json or of the health record -> what a person reads, and what it means.
QUANTITIES: Mapping[str, tuple[str, str]] = {
    "loss": ("Loss", "what training makes small; all terms together"),
    "l1": ("L1, class loss", "how well the positive prompts tell the classes apart"),
    "l2": ("L2, dual-prompt loss", "how well positive and negative prompts tell right from wrong"),
    "agreement": ("Peer agreement", "share of images that both peers give the same label"),
    "peer_agreement": ("Peer agreement", "share of images that both peers give the same label"),
    "p_clean": ("Clean probability", "how right the labels look to the prompts, on average"),
    "gap": ("Logit gap", "similarity to the positive prompt minus that to the negative one"),
    "gap_separation": ("Gap separation", "how far the gaps of kept and rejected labels lie apart"),
    "train_accuracy": ("Fit to the labels", "share of training labels that the peer reproduces"),
    "learning_rate": ("Learning rate", "step size of the optimizer"),
    "kept_share": ("Kept share", "share of proposed labels that the other peer kept"),
    "min_kept_share": ("Kept share, worst class", "kept share of the class that kept least"),
    "drift": ("Class-balance drift", "how far class shares moved from zero-shot; 0 is not at all"),
    "class_balance_drift": (
        "Class-balance drift",
        "how far class shares moved from zero-shot; 0 is not at all",
    ),
}
_SHARES = ("accuracy", "agreement", "share", "p_clean", "kept")

REASONS: Mapping[str, str] = {
    Reason.KEPT: "kept",
    Reason.ANSWERED: "answered by a person",
    Reason.NONE_FITS: "none of the classes, says a person",
    Reason.HELD_OUT: "held out for the guard of the fine-tuning",
    Reason.REJECTED: "the other peer takes it for wrong",
    Reason.RESCUED: "kept after all: its class kept too few",
    Reason.NOT_CONFIDENT: "not among the most confident of its class",
    Reason.CLASS_NOT_PREDICTED: "taken for a class that no image was predicted as",
    "empty-file": "the file has no content",
    "not-an-image": "the content is in no image format that is read",
    "truncated": "the image ends too early, as after a broken download",
    "too-many-pixels": "more pixels than the limit; not decoded",
    "too-large-file": "more bytes than the limit; not read",
    "unreadable": "the file could not be opened or read",
    "decode-error": "the image decoder failed",
    "decode-timeout": "the image decoder took too long",
}

# Part of a stage's name -> what it does, and the one setting that makes it faster.
_STAGES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("backbone",), "load the pretrained model once, to check it", ""),
    (
        ("embed",),
        "turn every image into a vector",
        "raise num_actors up to the number of cores or GPUs",
    ),
    (
        ("filter", "clean", "collab"),
        "each peer labels the images, the other keeps or rejects",
        "raise num_actors up to the number of cores or GPUs",
    ),
    (
        ("phase2", "phase 2", "phase ii", "finetune", "fine tune"),
        "Phase II: fine-tune the whole visual tower, twice",
        "lower phase2.epochs",
    ),
    (
        ("phase1", "phase 1", "phase i", "adapt", "peers"),
        "Phase I: train prompts and a light adapter, twice",
        "lower phase1.min_steps or phase1.epochs",
    ),
    (("evaluat", "predict"), "predict and measure", "raise batch_size"),
    (
        ("pool", "open", "scan"),
        "list the files, check their headers, find duplicates",
        "keep the images in one Parquet file, or close to this machine",
    ),
    (
        ("confident",),
        "choose the surest labels of each class",
        "lower label.per_class",
    ),
    (
        ("label", "zero"),
        "first labels from the class names alone",
        "use fewer templates",
    ),
    (("export", "register", "model", "assemble"), "save and register the model", ""),
)
_GPU_ADVICE = "give it a GPU (setting num_gpus; this run used none)"
_GPU_STAGES = ("embed", "phase", "adapt", "finetune", "filter", "clean", "evaluate")

UNKNOWN = "\N{EN DASH}"

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
        "Phase I trains few parameters on the surest labels. Phase II trains the whole visual "
        "tower on the clean set.",
    ),
    ("Precision", "Of the images that were given a class, the share that is of that class."),
    ("Pseudo-label", "A label that a model gave. Nobody has checked it."),
    ("Quarantine", "Files that could not be used. They are listed, and they never stop a run."),
    ("Recall", "Of the images that are of a class, the share that was found."),
    ("Transductive", "Measured on the same images that the model was adapted to."),
    ("Zero-shot", "The backbone used as it is, with nothing but the names of the classes."),
)


def quantity(key: str) -> tuple[str, str]:
    """Return the name and the meaning of a history or health key, spelled out if unknown."""
    plain = key.replace("-", "_")
    known = QUANTITIES.get(plain) or QUANTITIES.get(plain.lower())
    return known or (plain.replace("_", " ").strip().capitalize(), "")


def is_share(key: str) -> bool:
    """Say whether a history or health key names a share between 0 and 1."""
    return any(word in key.lower() for word in _SHARES)


def reason(slug: str) -> str:
    """Return what a reason slug means, or the slug in plain letters."""
    return REASONS.get(slug) or slug.replace("-", " ")


def source(slug: str) -> str:
    """Return who gave a label, as a person says it: `peer-1` is Peer 1."""
    return slug.replace("-", " ").capitalize() if slug.startswith("peer") else slug.capitalize()


def stage_purpose(name: str) -> str:
    """Return what a stage does, empty for a stage that is not known."""
    return next((purpose for keys, purpose, _ in _STAGES if _matches(name, keys)), "")


def stage_advice(name: str, *, num_gpus: float) -> str:
    """Return the one setting that makes a stage faster, empty if none is known."""
    if num_gpus == 0 and _matches(name, _GPU_STAGES):
        return _GPU_ADVICE
    return next((advice for keys, _, advice in _STAGES if _matches(name, keys)), "")


def _matches(name: str, keys: tuple[str, ...]) -> bool:
    return any(key in name.lower().replace("_", " ").replace("-", " ") for key in keys)


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as percent, `UNKNOWN` for None."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def points(change: float | None) -> str:
    """Write a difference of shares as percentage points with its sign."""
    if change is None:
        return UNKNOWN
    text = f"{100 * change:+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0" if text in {"+0.0", "\N{MINUS SIGN}0.0"} else text


def number(value: float | None, digits: int = 3) -> str:
    """Write a number: thousands apart, at most `digits` decimals, `UNKNOWN` for None."""
    if value is None:
        return UNKNOWN
    if float(value).is_integer():
        return f"{int(value):,}".replace("-", "\N{MINUS SIGN}")
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write a time as a person would: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
