"""Training on Ray, epoch by epoch, resumed from the last whole one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import ray
from torch import Tensor
from torch.optim import Optimizer

from clipcore import checkpoint
from tasks.compute.cluster import POLL_SECONDS, actors, ensure_ray, result
from tasks.compute.placement import shares
from tasks.progress import progress, say
from tasks.refs import PeerRef
from tasks.specs import RuntimeSpec
from tasks.storage.files import exists, local_copy, read_json, remove, write_bytes, write_json
from tasks.storage.manifest import make_manifest, read_manifest, write_manifest
from tasks.storage.stage import finished
from tasks.storage.uris import join
from tasks.tracking.runs import Run, log_history
from tasks.weights import WEIGHTS

PEERS = (1, 2)
RESUME = "resume.safetensors"
HISTORY = "history.json"
History = list[dict[str, float]]


class Job(Protocol):
    """What every training job says of itself."""

    @property
    def peer(self) -> int:
        """Return 1 or 2."""

    @property
    def folder(self) -> str:
        """Return where its files go."""

    @property
    def digest(self) -> str:
        """Return what it is made from."""


class Checkpoints:
    """The state of a training run after its last whole epoch: weights, optimizer and history."""

    def __init__(self, folder: str) -> None:
        self._uri = join(folder, RESUME)

    def write(
        self, epoch: int, tensors: Mapping[str, Tensor], optimizer: Optimizer, history: History
    ) -> None:
        """Replace the checkpoint, in one step, by the state after `epoch` whole epochs."""
        state = {
            **checkpoint.prefixed("weights", tensors),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        }
        header = {"epoch": epoch, "history": history}
        write_bytes(self._uri, checkpoint.to_bytes(state, header))

    def read(self, optimizer: Optimizer) -> tuple[dict[str, Tensor], History]:
        """Restore the optimizer; return the weights (none at the start) and the history."""
        if not exists(self._uri):
            return {}, []
        with local_copy(self._uri) as path:
            tensors, header = checkpoint.read(str(path))
        checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        return checkpoint.under("weights", tensors), header["history"]

    def remove(self) -> None:
        """Forget the state; the run has finished."""
        remove(self._uri)


def write_peer(folder: str, digest: str, data: bytes, history: History) -> None:
    """Declare a training run finished: weights, history, and the manifest last."""
    write_bytes(join(folder, WEIGHTS), data)
    write_json(join(folder, HISTORY), history)
    seconds = sum(row["seconds"] for row in history)
    added = {"seconds": seconds, "facts": {"epochs": len(history)}}
    manifest = make_manifest("peer", digest, ()).model_copy(update=added)
    write_manifest(folder, manifest)


def read_history(peer: PeerRef) -> History:
    """Return what every epoch of a finished peer measured."""
    history: History = read_json(join(peer.uri, HISTORY))
    return history


def train_peers(
    actor_class: type, jobs: Sequence[Job], runtime: RuntimeSpec, run: Run, *, phase: Literal[1, 2]
) -> tuple[PeerRef, ...]:
    """Train what is not finished yet, each job in an actor of its own; refer to all.

    The actor class is made from (job, device) and has `num_epochs()`, `run_epoch(n)` and
    `finish()`. All three are idempotent: an actor that died is restarted from its checkpoint and
    asked again, so that at most one epoch is computed twice.
    """
    missing = [job for job in jobs if read_manifest(job.folder) is None]
    if missing:
        ensure_ray(runtime)
        share = shares(runtime, most=len(missing), split=len(missing))
        for start in range(0, len(missing), share.num_actors):
            arguments = [(job, share.device) for job in missing[start : start + share.num_actors]]
            with actors(actor_class, arguments, share) as started:
                drive(started, f"Phase {'I' * phase}", run)
    else:
        say(f"Phase {'I' * phase}: finished before")
    return tuple(_refer(job, phase, resumed=job not in missing) for job in jobs)


def _refer(job: Job, phase: Literal[1, 2], *, resumed: bool) -> PeerRef:
    manifest = finished(job.folder)
    return PeerRef(
        uri=job.folder,
        digest=job.digest,
        seconds=manifest.seconds,
        resumed=resumed,
        peer=job.peer,
        phase=phase,
    )


def drive(started: list[Any], label: str, run: Run) -> None:
    """Let every actor run its epochs, each at its own pace, and report them as they end.

    Each has `num_epochs()`, `run_epoch(n)` and `finish()`; see `train_peers`.
    """
    counts = ray.get([actor.num_epochs.remote() for actor in started])
    running = {actor.run_epoch.remote(0): (n, 0) for n, actor in enumerate(started)}
    with progress(label, sum(counts), unit="epochs") as advance:
        while running:
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
            for reference in ready:
                number, epoch = running.pop(reference)
                row = result(reference)
                if row is None:  # that was `finish`
                    continue
                log_history(run, [row])
                advance(1)
                actor, after = started[number], epoch + 1
                more = after < counts[number]
                then = actor.run_epoch.remote(after) if more else actor.finish.remote()
                running[then] = (number, after)
