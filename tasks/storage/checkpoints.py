"""Weights and training state in a workspace: a checkpoint after every epoch, weights at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from clipcore import checkpoint
from tasks.storage.files import exists, local_copy, read_json, remove, write_bytes, write_json
from tasks.storage.layout import HISTORY, RESUME, WEIGHTS
from tasks.storage.manifest import make_manifest, write_manifest
from tasks.storage.uris import join

Row = dict[str, float]
History = list[Row]


class Checkpoints:
    """The state of a training run after its last whole epoch: weights, optimizer and history."""

    def __init__(self, folder: str) -> None:
        self._uri = join(folder, RESUME)

    def write(
        self, tensors: Mapping[str, Tensor], optimizer: Optimizer, history: Sequence[Row]
    ) -> None:
        """Replace the checkpoint, in one step; the history has one row for each whole epoch."""
        state = {
            **checkpoint.prefixed("weights", tensors),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        }
        write_bytes(self._uri, checkpoint.to_bytes(state, {"history": list(history)}))

    def read(self, optimizer: Optimizer) -> tuple[dict[str, Tensor], History]:
        """Restore the optimizer; return the weights (none at the start) and the history."""
        if not exists(self._uri):
            return {}, []
        try:
            with local_copy(self._uri) as path:
                tensors, header = checkpoint.read(str(path))
        except FileNotFoundError:  # another command has just finished this training
            return {}, []
        checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        return checkpoint.under("weights", tensors), header["history"]

    def remove(self) -> None:
        """Forget the state; the run has finished."""
        remove(self._uri)


def write_trained(  # what a finished training leaves
    folder: str,
    digest: str,
    tensors: Mapping[str, Tensor],
    *,
    header: Mapping[str, Any],
    history: Sequence[Row],
    facts: Mapping[str, Any],
) -> None:
    """Declare a training finished: weights, history, and the manifest last.

    Args:
        folder: Of the training.
        digest: Of what it was made from.
        tensors: The weights.
        header: JSON in the file of the weights: how to load them.
        history: What every epoch measured.
        facts: JSON in the manifest.
    """
    write_tensors(folder, WEIGHTS, tensors, {**header, "digest": digest})
    write_json(join(folder, HISTORY), list(history))
    manifest = make_manifest("weights", digest, ()).model_copy(
        update={
            "seconds": sum(row["seconds"] for row in history),
            "facts": {"epochs": len(history), **facts},
        }
    )
    write_manifest(folder, manifest)


def write_tensors(
    folder: str, name: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON header as a safetensors file, atomically."""
    write_bytes(join(folder, name), checkpoint.to_bytes(tensors, header))


def read_tensors(folder: str, name: str = WEIGHTS) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a safetensors file."""
    with local_copy(join(folder, name)) as path:
        return checkpoint.read(str(path))


def read_history(folder: str) -> History:
    """Return what every epoch of a finished training measured."""
    history: History = read_json(join(folder, HISTORY))
    return history
