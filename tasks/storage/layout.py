"""The tree of a workspace: which folder and which file holds what."""

from enum import StrEnum

from tasks.storage.uris import absolute, join

WEIGHTS = "weights.safetensors"  # of a peer, a network or a round's learner
HISTORY = "history.json"  # what every epoch of a training measured
RESUME = "resume.safetensors"  # state of a training that is not finished
QUARANTINE = "quarantine"  # folder beside the parts of a stage that reads pixels
FEATURES = "features"  # folder beside predictions: what the first network saw
MODEL = "model.json"  # of a classifier


class Folder(StrEnum):
    """The folders of a workspace. Each holds one folder for each digest, or for each name."""

    SCAN = "scan"
    POOL = "pool"
    ANSWERS = "answers"
    EMBEDDINGS = "embeddings"
    LABELS = "labels"
    PEERS = "peers"
    MODELS = "models"
    PREDICTIONS = "predictions"
    EVALUATIONS = "evaluations"
    REPORTS = "reports"
    ROUNDS = "rounds"
    SIMULATIONS = "simulations"
    DEMO = "demo"


def place(workspace: str, folder: Folder, *names: str) -> str:
    """Return the URI of something in a workspace: `place(w, Folder.LABELS, digest)`."""
    return join(absolute(workspace), folder.value, *names)
