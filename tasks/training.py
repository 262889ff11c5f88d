"""What training on Ray shares: the rows to learn from, checkpoints, and peers side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from torch import Tensor
from torch.optim import Optimizer

from clipcore import checkpoint
from tasks import shards
from tasks.cluster import POLL_SECONDS, actors, ensure_ray, result, shares
from tasks.progress import progress, say
from tasks.specs import HELD_OUT, InputError, LabelsRef, PeerRef, PoolRef, RuntimeSpec
from tasks.stage import finished
from tasks.towers import WEIGHTS
from tasks.tracking import Run, log_history

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


def training_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], Tensor]:
    """Return the URIs and class numbers of the labels that were kept, in the pool's order.

    Only these two columns are held: about a hundred bytes an image.
    """
    uris: list[str] = []
    numbers: list[int] = []
    names = pa.array(pool.classes, pa.string())
    images = shards.iter_tables(pool.uri, ["image_id", "uri", "duplicate_of"])
    for part, table in zip(
        shards.iter_tables(labels.uri, ["image_id", "label", "kept"]), images, strict=True
    ):
        kept = part.filter(part["kept"])
        known = table.filter(table["duplicate_of"].is_null())
        rows = pc.index_in(kept["image_id"], known["image_id"].combine_chunks())
        uris += known["uri"].take(rows).to_pylist()
        numbers += pc.index_in(kept["label"], names).to_pylist()
    if not uris:
        raise InputError(
            f"No label of {labels.source} was kept, so there is nothing to learn from. Check that "
            "the class names fit the images, or try another backbone."
        )
    return uris, torch.tensor(numbers)


def held_out_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of the images that a labelling holds out for the guard."""
    ids: list[str] = []
    uris: list[str] = []
    images = shards.iter_tables(pool.uri, ["image_id", "uri", "duplicate_of"])
    for part, table in zip(
        shards.iter_tables(labels.uri, ["image_id", "reason"]), images, strict=True
    ):
        out = part.filter(pc.equal(part["reason"], HELD_OUT))
        known = table.filter(table["duplicate_of"].is_null())
        rows = pc.index_in(out["image_id"], known["image_id"].combine_chunks())
        ids += out["image_id"].to_pylist()
        uris += known["uri"].take(rows).to_pylist()
    return ids, uris


class Checkpoints:
    """The state of a training run after its last whole epoch: weights, optimizer and history."""

    def __init__(self, folder: str) -> None:
        self._uri = shards.join(folder, RESUME)

    def write(
        self, epoch: int, tensors: Mapping[str, Tensor], optimizer: Optimizer, history: History
    ) -> None:
        """Replace the checkpoint, in one step, by the state after `epoch` whole epochs."""
        state = {
            **checkpoint.prefixed("weights", tensors),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        }
        header = {"epoch": epoch, "history": history}
        shards.write_bytes(self._uri, checkpoint.to_bytes(state, header))

    def read(self, optimizer: Optimizer) -> tuple[dict[str, Tensor], History]:
        """Restore the optimizer; return the weights (none at the start) and the history."""
        if not shards.exists(self._uri):
            return {}, []
        with shards.local_copy(self._uri) as path:
            tensors, header = checkpoint.read(str(path))
        checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        return checkpoint.under("weights", tensors), header["history"]

    def remove(self) -> None:
        """Forget the state; the run has finished."""
        shards.remove(self._uri)


def write_peer(folder: str, digest: str, data: bytes, history: History) -> None:
    """Declare a training run finished: weights, history, and the manifest last."""
    shards.write_bytes(shards.join(folder, WEIGHTS), data)
    shards.write_json(shards.join(folder, HISTORY), history)
    seconds = sum(row["seconds"] for row in history)
    added = {"seconds": seconds, "facts": {"epochs": len(history)}}
    manifest = shards.make_manifest("peer", digest, ()).model_copy(update=added)
    shards.write_manifest(folder, manifest)


def read_history(peer: PeerRef) -> History:
    """Return what every epoch of a finished peer measured."""
    history: History = shards.read_json(shards.join(peer.uri, HISTORY))
    return history


def train_peers(
    actor_class: type, jobs: Sequence[Job], runtime: RuntimeSpec, run: Run, *, phase: Literal[1, 2]
) -> tuple[PeerRef, ...]:
    """Train what is not finished yet, each job in an actor of its own; refer to all.

    The actor class is made from (job, device) and has `num_epochs()`, `run_epoch(n)` and
    `finish()`. All three are idempotent: an actor that died is restarted from its checkpoint and
    asked again, so that at most one epoch is computed twice.
    """
    missing = [job for job in jobs if shards.read_manifest(job.folder) is None]
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
