"""The tree of a workspace: which folder and which file holds what."""

import os
from enum import StrEnum

from tasks.specs import URI, InputError
from tasks.storage.digests import SCHEMA_VERSION
from tasks.storage.files import LONGEST_NAME, exists, names_in, reaching, read_json, write_json
from tasks.storage.uris import absolute, is_escaped, is_local, is_pattern, join, local_path, redact

LONGEST_PLACE = 400  # bytes; SQLite takes 511 for a database, and names inside take some
MARK = "workspace.json"  # which version of the files a workspace holds
UNKNOWN = "unknown"

WEIGHTS = "weights.safetensors"  # of a peer, a network or a round's learner
HISTORY = "history.json"  # what every epoch of a training measured
RESUME = "resume.safetensors"  # state of a training that is not finished
DESCRIPTION = "model.json"  # of a classifier; written by clipcore.classifier, beside its weights
QUARANTINE = "quarantine"  # folder beside the parts of a stage that reads pixels
SPLIT_FOLDERS = "split_folders"  # in the facts of images: how many each such folder has
TOWERS = "towers"  # in the facts of a classifier: the digest of each member's tower
RUNS = "runs"  # folder beside embeddings: which of them each set of images has
ENERGIES = "energies"  # of a model's pool, in the facts of its description
HELD_OUT_LOGITS = "guard-{}.safetensors"  # logits of held-out images after an epoch, for each mix
EPOCH_WEIGHTS = "epoch-{}.safetensors"  # weights after an epoch of Phase II
METRICS = "metrics.json"  # of an evaluation
AHEAD = "ahead.json"  # what a quick method makes of the images of a run


class Folder(StrEnum):
    """The folders of a workspace. Each holds one folder for each digest, or for each name."""

    LISTING = "listing"
    POOL = "pool"
    TASKS = "tasks"
    ANSWERS = "answers"
    EMBEDDINGS = "embeddings"
    SENTENCES = "sentences"
    COMPLETIONS = "completions"
    LABELS = "labels"
    PEERS = "peers"
    MODELS = "models"
    PREDICTIONS = "predictions"
    MODALITIES = "modalities"
    EVALUATIONS = "evaluations"
    BEGUN = "begun"
    FINISHED = "finished"
    REPORTS = "reports"
    ROUNDS = "rounds"
    ASKED = "asked"
    NIGHTLY = "nightly"
    SIMULATIONS = "simulations"
    COMPARISONS = "comparisons"
    DEMO = "demo"
    LANGUAGES = "languages"
    MAPS = "maps"
    VISIONS = "visions"
    CAPTIONS = "captions"


_NEWER = {  # than the mark of a workspace: such a folder says nothing of its version
    Folder.DEMO,
    Folder.ASKED,
    Folder.COMPARISONS,
    Folder.MODALITIES,
    Folder.LANGUAGES,
    Folder.MAPS,
    Folder.VISIONS,
    Folder.CAPTIONS,
}


def in_workspace(workspace: str, folder: Folder, *names: str) -> str:
    """Return the URI of something in a workspace: `in_workspace(w, Folder.LABELS, digest)`."""
    return join(absolute(workspace), folder.value, *names)


def check_workspace(workspace: str) -> None:
    """Refuse a workspace whose files mean something else to this version; nothing is touched.

    Raises:
        InputError: it was written by another version of coft, or no path of a file in it could be.
    """
    place = absolute(workspace)
    if is_local(workspace) and URI.match(workspace) and not local_path(workspace).is_absolute():
        raise InputError(f"{workspace}: expected file:///PATH, a path on this machine.")
    _check_path(place)
    with reaching(workspace):
        version = _version_of(place)
    if version not in (None, SCHEMA_VERSION):
        raise InputError(
            f"{redact(workspace)} was written by another version of coft (its files have version "
            f"{version}, this one reads {SCHEMA_VERSION}) and is left as it is. Name another "
            "--workspace."
        )


def _check_path(place: str) -> None:
    """Refuse a path that databases cannot have, or that leaves no room for what is inside."""
    if not is_local(place):
        return
    if is_escaped(place):
        raise InputError(f"{place}: a workspace needs a path in UTF-8; name another --workspace.")
    if "\\" in place and is_pattern(place):
        raise InputError(
            f"{place}: a workspace may not have a backslash beside * ? or [ in its path, which "
            "together are a pattern to DuckDB; name another --workspace."
        )
    sizes = [len(os.fsencode(text)) for text in (place, *place.split("/"))]
    if sizes[0] > LONGEST_PLACE or max(sizes[1:]) > LONGEST_NAME:
        raise InputError(
            f"{place[:60]}...: expected a workspace with a path of at most {LONGEST_PLACE} bytes, "
            f"and names of at most {LONGEST_NAME} in it; name another --workspace."
        )


def claim_workspace(workspace: str) -> None:
    """Check a workspace, and mark a new one with the version of the files that it will hold.

    Raises:
        InputError: as `check_workspace`.
    """
    check_workspace(workspace)
    mark = join(absolute(workspace), MARK)
    if not exists(mark):
        write_json(mark, {"schema_version": SCHEMA_VERSION})


def _version_of(workspace: str) -> int | str | None:
    """Return the version of a workspace's files; None for a place without results."""
    names = names_in(workspace)
    if MARK in names:
        mark = read_json(join(workspace, MARK))
        return mark.get("schema_version", UNKNOWN) if isinstance(mark, dict) else UNKNOWN
    # Before workspaces carried a mark, version 1 was the only one.
    return 1 if names & (set(Folder) - _NEWER) else None
