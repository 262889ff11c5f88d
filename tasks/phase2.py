"""Phase II: the whole visual tower and a linear head, one network for each clean set (CoFT 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipcore import checkpoint, precision
from clipcore.coft.phase2 import parameter_groups, train_network
from clipcore.fit import Schedule, TrainingSet
from clipcore.network import interpolate
from tasks.compute.epochs import Checkpoints, train_peers, write_peer
from tasks.images.disk_cache import Spool
from tasks.pool.readers import held_out_rows, training_rows
from tasks.refs import BackboneRef, LabelsRef, PeerRef, PoolRef
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.stage import step
from tasks.storage.uris import join
from tasks.tracking.runs import Run
from tasks.weights import start_network

GUARD = "guard-{}.safetensors"
STATE = "epoch-{}.safetensors"


@dataclass(frozen=True)
class NetworkJob:
    """What one network of Phase II is told."""

    peer: int
    folder: str
    digest: str
    backbone: BackboneRef
    clean: LabelsRef
    start: PeerRef
    pool: PoolRef
    spec: CoftSpec


class NetworkActor:
    """One network in training. It starts from its checkpoint, if there is one."""

    def __init__(self, job: NetworkJob, device: str) -> None:
        self.job = job
        self.spec = job.spec.phase2
        self.network = start_network(job.backbone.name, job.start.uri, self.spec, device=device)
        self.start = _copy(self.network.state_dict())
        preprocess = self.network.visual.preprocess
        uris, labels = training_rows(job.clean, job.pool)
        self.spool = Spool(preprocess, max_pixels=job.spec.pool.max_pixels)
        self.spool.fill(uris)
        self.data = TrainingSet(labels, self.spool.load_pixels)
        self.guard = Spool(preprocess, max_pixels=job.spec.pool.max_pixels)
        self.guard_ids, guard_uris = held_out_rows(job.clean, job.pool)
        self.guard.fill(guard_uris)
        groups = parameter_groups(
            self.network,
            learning_rate=self.spec.learning_rate,
            head_learning_rate=self.spec.head_learning_rate,
        )
        self.optimizer = torch.optim.AdamW(groups, weight_decay=self.spec.weight_decay)
        self.checkpoints = Checkpoints(job.folder)
        weights, self.history = self.checkpoints.read(self.optimizer)
        if weights:
            self.network.load_state_dict(weights)

    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self.spec.epochs

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch, judge it on the held-out images, write its checkpoint."""
        if epoch < len(self.history):
            return self.history[epoch]
        schedule = Schedule(
            epochs=self.spec.epochs,
            batch_size=self.spec.batch_size,
            seed=self.job.spec.seed,
            stream=f"phase2/{self.job.peer}",
        )
        for means in train_network(
            self.network,
            self.optimizer,
            self.data,
            schedule,
            norm_statistics=self.spec.norm_statistics,
            flip=self.job.spec.flip,
            epochs=range(len(self.history), epoch + 1),
        ):
            number = len(self.history)
            self._judge(number)
            self.history.append({"phase": 2, "peer": self.job.peer, "epoch": number, **means})
            self.checkpoints.write(
                number + 1, self.network.state_dict(), self.optimizer, self.history
            )
        return self.history[epoch]

    def finish(self) -> None:
        """Write the start, which the guard may go back to, and declare the training finished."""
        header = {"phase": 2, "digest": self.job.digest, "images": self.guard_ids}
        data = checkpoint.to_bytes(self.start, header)
        write_peer(self.job.folder, self.job.digest, data, self.history)
        self.checkpoints.remove()

    def _judge(self, epoch: int) -> None:
        """Write an epoch's weights, and what each mix with the start says of held-out images."""
        end = _copy(self.network.state_dict())
        logits = {}
        for alpha in self.spec.wise_alphas:
            self.network.load_state_dict(interpolate(self.start, end, alpha))
            logits[str(alpha)] = self._guard_logits()
        self.network.load_state_dict(end)
        for name, tensors in ((STATE, end), (GUARD, logits)):
            data = checkpoint.to_bytes(tensors, {"epoch": epoch})
            write_bytes(join(self.job.folder, name.format(epoch)), data)

    @torch.inference_mode()
    def _guard_logits(self) -> Tensor:
        """Return logits of shape (held-out images, classes), on the CPU."""
        self.network.eval()
        device = self.network.head.weight.device
        positions = torch.arange(len(self.guard_ids)).split(self.job.spec.runtime.batch_size)
        logits = []
        for pixels in self.guard.load_pixels(positions):
            with precision.mixed(device, training=False):
                features = self.network.visual(pixels)
            logits.append(self.network.logits(features).cpu())
        return torch.cat(logits)


@step("fine-tune")
def finetune_each(  # one stage's inputs
    clean: Sequence[LabelsRef],
    peers: Sequence[PeerRef],
    pool: PoolRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    run: Run,
) -> tuple[PeerRef, ...]:
    """Train one whole network on each clean set, side by side (CoFT Eq. 7).

    Each epoch ends in a checkpoint. The weights of every epoch stay, with what they predict for the
    held-out images, so that the guard can choose among them.
    """
    jobs = []
    for labels, peer in zip(clean, peers, strict=True):
        made_from = (labels.digest, peer.digest, backbone, spec.phase2, spec.seed, spec.flip)
        digest = fingerprint("phase2", *made_from)
        folder = join(spec.runtime.workspace, "peers", digest)
        jobs.append(NetworkJob(peer.peer, folder, digest, backbone, labels, peer, pool, spec))
    return train_peers(NetworkActor, jobs, spec.runtime, run, phase=2)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
