"""Phase I: two peers learn prompts and an adapter, side by side, from the confident set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipcore import dual
from clipcore.backbone_names import UnsupportedBackbone
from clipcore.coft.phase1 import new_peer
from clipcore.fit import Schedule, TrainingSet, resolve_epochs
from clipcore.prompts import ContextTooLong
from clipcore.seeding import generator
from tasks.backbone import adapter_arguments, load_backbone
from tasks.compute.epochs import Result, train_jobs
from tasks.images.pixels import pixels_of_run
from tasks.images.training_pixels import TrainingPixels
from tasks.pool.training_rows import training_rows
from tasks.refs import PEERS, BackboneRef, ImagesRef, LabelsRef, PeerRef, TaskRef
from tasks.specs import CoftSpec, InputError, Phase1Spec, PoolSpec
from tasks.storage.checkpoints import Row
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import step
from tasks.tracking.runs import Run, log_history
from tasks.weights import ATTACH, learned_tensors, peer_refs


@dataclass(frozen=True)
class PeerJob:
    """The inputs of one peer of Phase I."""

    peer: int
    folder: str
    digest: str
    backbone: BackboneRef
    confident: LabelsRef
    images: ImagesRef
    task: TaskRef
    spec: Phase1Spec
    seed: int
    flip: bool
    limits: PoolSpec
    round: int = 0
    pixel_cache: int | None = None

    @property
    def labels(self) -> dict[str, int]:
        """Return what stands in each row of its history."""
        place = {"phase": 1, "peer": self.peer}
        return {**place, "round": self.round} if self.round else place

    @property
    def stream(self) -> str:
        """Return what names its random numbers; a round starts from other ones than the last."""
        return f"phase1/{self.peer}" + (f"/{self.round}" if self.round else "")


class PeerTrainer:
    """One peer, the confident set and SGD; its seed and number alone decide how it starts."""

    def __init__(self, job: PeerJob, device: str) -> None:
        self._job = job
        backbone = load_backbone(job.backbone.name, device=device)
        self._attach = adapter_arguments(job.spec.adapter, backbone.visual.kind)
        try:
            self._peer = new_peer(
                backbone,
                job.task.classes,
                generator=generator(job.seed, job.stream),
                prompts=job.spec.prompts.model_dump(),
                adapter=self._attach,
                flip=job.flip,
            )
        except (ContextTooLong, UnsupportedBackbone) as error:
            raise InputError(str(error)) from error
        rows = training_rows(job.confident, job.images, job.task)
        pixels = pixels_of_run(
            backbone.visual.preprocess, job.limits, job.pixel_cache, device=device
        )
        self._data = TrainingSet(rows.labels, TrainingPixels(pixels, rows.ids, rows.uris).load)
        sgd = job.spec.sgd
        self.optimizer = torch.optim.SGD(
            self._peer.learned(),
            sgd.learning_rate,
            sgd.momentum,
            weight_decay=sgd.weight_decay,
            fused=True,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the contexts and the adapter."""
        return self._peer.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._peer.restore(tensors)

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return resolve_epochs(
            self._job.spec.epochs,
            num_samples=len(self._data.labels),
            batch_size=self._job.spec.batch_size,
            min_steps=self._job.spec.min_steps,
        )

    def train(self, epochs: range) -> Iterator[Row]:
        """Minimise the losses of CoFT Eq. 4 to 6 for some epochs."""
        spec = self._job.spec
        schedule = Schedule(
            epochs=self.num_epochs,
            batch_size=spec.batch_size,
            seed=self._job.seed,
            stream=self._job.stream,
        )
        return dual.train(
            self._peer,
            self.optimizer,
            self._data,
            schedule,
            epochs=epochs,
            dual_weight=spec.dual.weight,
            gradient_mode=spec.dual.gradient_mode,
        )

    def result(self) -> Result:
        """Return what was learned, with the class embeddings of both signs."""
        return Result(learned_tensors(self._peer), {ATTACH: self._attach})


@step("adapt peers")
def adapt_peers(  # noqa: PLR0913  # what Phase I depends on
    confident: Sequence[LabelsRef],
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    run: Run,
    *,
    number: int = 0,
) -> tuple[PeerRef, ...]:
    """Train both peers of Phase I, seeded apart (CoFT 3.1), or one alone.

    Each epoch ends in a checkpoint: a peer that was killed goes on from it and arrives at the same
    weights. A peer that is finished is not trained again.

    Args:
        confident: One labelling that both learn from, or one for each.
        images: The images.
        task: The classes.
        backbone: What both start from, in every round anew.
        spec: Settings; of `collaboration` how many peers there are.
        run: Where losses are recorded.
        number: Of the round; CoFT has the first one alone.
    """
    peers = PEERS[: spec.collaboration.num_peers]
    sets = [*confident] if len(confident) > 1 else [*confident] * len(peers)
    jobs = [
        _job(peer, number, labels, images, task, backbone, spec)
        for peer, labels in zip(peers, sets, strict=True)
    ]
    trained = train_jobs(
        PeerTrainer,
        jobs,
        spec.runtime,
        label="Phase I",
        on_epoch=lambda row: log_history(run, [row]),
    )
    return peer_refs(jobs, trained)


def _job(  # noqa: PLR0913, PLR0917  # as `adapt_peers`
    peer: int,
    number: int,
    confident: LabelsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> PeerJob:
    made_from = (peer, confident.digest, backbone, spec.phase1, spec.seed, spec.flip)
    digest = fingerprint("phase1", *made_from, *([number] if number else []))
    return PeerJob(
        peer=peer,
        folder=in_workspace(spec.runtime.workspace, Folder.PEERS, digest),
        digest=digest,
        backbone=backbone,
        confident=confident,
        images=images,
        task=task,
        spec=spec.phase1,
        seed=spec.seed,
        flip=spec.flip,
        limits=spec.pool,
        round=number,
        pixel_cache=spec.runtime.pixel_cache,
    )
