"""Phase I: two peers learn prompts and an adapter, side by side, from the confident set."""

from dataclasses import dataclass

import torch

from clipcore import checkpoint
from clipcore.coft import phase1
from clipcore.fit import Schedule, TrainingSet, resolve_epochs
from tasks.compute.epochs import PEERS, Checkpoints, train_peers, write_peer
from tasks.images.disk_cache import Spool
from tasks.pool.readers import training_rows
from tasks.refs import BackboneRef, LabelsRef, PeerRef, PoolRef
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.stage import step
from tasks.storage.uris import join
from tasks.tracking.runs import Run
from tasks.weights import new_peer, peer_adapter


@dataclass(frozen=True)
class PeerJob:
    """What one peer of Phase I is told."""

    peer: int
    folder: str
    digest: str
    backbone: BackboneRef
    confident: LabelsRef
    pool: PoolRef
    spec: CoftSpec


class PeerActor:
    """One peer in training. It starts from its checkpoint, if there is one."""

    def __init__(self, job: PeerJob, device: str) -> None:
        self.job = job
        self.spec = job.spec.phase1
        self.peer = new_peer(
            job.backbone.name,
            job.pool.classes,
            self.spec,
            seed=job.spec.seed,
            peer=job.peer,
            device=device,
        )
        self.spool = Spool(
            self.peer.backbone.visual.preprocess, max_pixels=job.spec.pool.max_pixels
        )
        uris, labels = training_rows(job.confident, job.pool)
        self.spool.fill(uris)
        self.data = TrainingSet(labels, self.spool.load_pixels)
        self.optimizer = torch.optim.SGD(
            self.peer.learned(),
            lr=self.spec.learning_rate,
            momentum=self.spec.momentum,
            weight_decay=self.spec.weight_decay,
        )
        self.checkpoints = Checkpoints(job.folder)
        weights, self.history = self.checkpoints.read(self.optimizer)
        if weights:
            self.peer.restore(weights)

    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return resolve_epochs(
            self.spec.epochs,
            num_samples=len(self.data.labels),
            batch_size=self.spec.batch_size,
            min_steps=self.spec.min_steps,
        )

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and write its checkpoint, or return what a finished one measured."""
        if epoch < len(self.history):
            return self.history[epoch]
        schedule = Schedule(
            epochs=self.num_epochs(),
            batch_size=self.spec.batch_size,
            seed=self.job.spec.seed,
            stream=f"phase1/{self.job.peer}",
        )
        for means in phase1.train_peer(
            self.peer,
            self.optimizer,
            self.data,
            schedule,
            dual_weight=self.spec.dual_weight,
            gradient_mode=self.spec.gradient_mode,
            flip=self.job.spec.flip,
            epochs=range(len(self.history), epoch + 1),
        ):
            place = {"phase": 1, "peer": self.job.peer, "epoch": len(self.history)}
            self.history.append({**place, **means})
            self.checkpoints.write(
                len(self.history), self.peer.tensors(), self.optimizer, self.history
            )
        return self.history[epoch]

    def finish(self) -> None:
        """Write what was learned, with the class embeddings of both signs."""
        positive, negative = phase1.class_embeddings(self.peer)
        tensors = {
            **self.peer.tensors(),
            "positive": positive,
            "negative": negative,
            "logit_scale": torch.tensor(self.peer.backbone.logit_scale),
        }
        attach = peer_adapter(self.spec, self.peer.backbone.visual.kind)
        header = {"phase": 1, "attach": attach, "digest": self.job.digest}
        data = checkpoint.to_bytes(tensors, header)
        write_peer(self.job.folder, self.job.digest, data, self.history)
        self.checkpoints.remove()


@step("adapt peers")
def adapt_peers(
    confident: LabelsRef, pool: PoolRef, backbone: BackboneRef, spec: CoftSpec, run: Run
) -> tuple[PeerRef, ...]:
    """Train both peers of Phase I from one confident set, seeded apart (CoFT 3.1).

    Each epoch ends in a checkpoint: a peer that was killed goes on from it and arrives at the same
    weights. A peer that is finished is not trained again.
    """
    jobs = []
    for peer in PEERS:
        made_from = (peer, confident.digest, backbone, spec.phase1, spec.seed, spec.flip)
        digest = fingerprint("phase1", *made_from)
        folder = join(spec.runtime.workspace, "peers", digest)
        jobs.append(PeerJob(peer, folder, digest, backbone, confident, pool, spec))
    return train_peers(PeerActor, jobs, spec.runtime, run, phase=1)
