"""The names of the methods, known before one is loaded."""

NAMES = (
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
)
"""Methods that no label of an image is given to."""

LABELLED_NAMES = (
    "gda",
    "linear-probe",
    "tip-adapter",
    "tip-adapter-f",
    "coop",
    "clap",
)
"""Methods that learn from answers of people."""
