"""Phase II: the whole visual tower and a linear head, one network for each clean set (CoFT 3.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipcore.checkpoint import prefixed, under
from clipcore.coft.consistency import Consistency
from clipcore.coft.contrast import MomentumContrast, resolve_queue_size
from clipcore.coft.phase2 import NO_LABEL, Unlabeled, parameter_groups, train_network
from clipcore.fit import Schedule, TrainingSet
from clipcore.inference import BatchSize, Encoder
from clipcore.network import Network, interpolate, new_network
from clipcore.zero_shot import sentence_embeddings
from tasks.backbone import load_backbone
from tasks.compute.epochs import Result, train_jobs
from tasks.images.pixels import pixels_of_run
from tasks.images.training_pixels import TrainingPixels
from tasks.pool.training_rows import (
    TrainingRows,
    class_shares,
    held_out_rows,
    training_rows,
    unlabeled_rows,
)
from tasks.progress import say
from tasks.refs import BackboneRef, ImagesRef, LabelsRef, PeerRef, SentencesRef, TaskRef
from tasks.sentences.candidates import sentences_of
from tasks.specs import CoftSpec, Phase2Spec, PlusSpec, PoolSpec
from tasks.storage.checkpoints import Row, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.layout import EPOCH_WEIGHTS, HELD_OUT_LOGITS, Folder, in_workspace
from tasks.storage.stage import step
from tasks.tracking.runs import Run, log_history
from tasks.weights import LEFT_OUT, attach_learned, peer_refs, read_dual_head

NETWORK = "network"  # in a checkpoint
MOST_JUDGED = 5_000  # images by which the guard judges, of all that are held out


@dataclass(frozen=True)
class NetworkJob:
    """The inputs of one network of Phase II."""

    peer: int
    folder: str
    digest: str
    backbone: BackboneRef
    clean: LabelsRef
    start: PeerRef
    images: ImagesRef
    task: TaskRef
    spec: Phase2Spec
    seed: int
    flip: bool
    limits: PoolSpec
    round: int = 0
    plus: PlusSpec | None = None  # what CoFT+ learns from images without labels
    sentences: tuple[tuple[str, ...], ...] = ()  # of each class, for a student's head
    batch_size: int | None = None  # of a forward pass without gradients
    pixel_cache: int | None = None

    @property
    def labels(self) -> dict[str, int]:
        """Return what stands in each row of its history."""
        place = {"phase": 2, "peer": self.peer}
        return {**place, "round": self.round} if self.round else place


class NetworkTrainer:
    """One network, its clean set, AdamW, and the held-out images that the guard reads."""

    def __init__(self, job: NetworkJob, device: str) -> None:
        self._job = job
        self._network = start_network(job, device=device)
        self._start = _copy(self._network.state_dict())
        self._device = device
        self._rows = training_rows(job.clean, job.images, job.task, most=job.spec.max_images)
        _say_left_out(self._rows, job)
        self._data, self._unlabeled = self._training_set()
        self._held_out, held_out_uris = held_out_rows(job.clean, job.images, most=MOST_JUDGED)
        self._guard = self._pixels_of(self._held_out, held_out_uris)
        groups = parameter_groups(
            self._network,
            learning_rate=job.spec.learning_rate,
            head_learning_rate=job.spec.head_learning_rate,
        )
        self.optimizer = torch.optim.AdamW(groups, weight_decay=job.spec.weight_decay, fused=True)

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self._job.spec.epochs

    def tensors(self) -> dict[str, Tensor]:
        """Return the network's state, and that of what learns from images without labels."""
        tensors = prefixed(NETWORK, self._network.state_dict())
        for one in self._unlabeled:
            tensors |= prefixed(one.name, one.tensors())
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._network.load_state_dict(under(NETWORK, tensors))
        for one in self._unlabeled:
            one.restore(under(one.name, tensors))

    def train(self, epochs: range) -> Iterator[Row]:
        """Minimise the cross-entropy of CoFT Eq. 7, or Eq. 10 with contrast, for some epochs."""
        spec = self._job.spec
        schedule = Schedule(
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            seed=self._job.seed,
            stream=f"phase2/{self._job.peer}",
        )
        return train_network(
            self._network,
            self.optimizer,
            self._data,
            schedule,
            norm_statistics=spec.norm_statistics,
            flip=self._job.flip,
            epochs=epochs,
            unlabeled=self._unlabeled,
        )

    def after_epoch(self, epoch: int) -> None:
        """Write an epoch's weights, and logits of held-out images for each mix with the start."""
        end = _copy(self._network.state_dict())
        logits = {}
        for alpha in self._job.spec.wise_alphas:
            if epoch and not alpha:
                continue  # Phase I, whatever the epoch
            self._network.load_state_dict(interpolate(self._start, end, alpha))
            logits[str(alpha)] = self._guard_logits()
        self._network.load_state_dict(end)
        for name, tensors in ((EPOCH_WEIGHTS, end), (HELD_OUT_LOGITS, logits)):
            write_tensors(self._job.folder, name.format(epoch), tensors, {"epoch": epoch})

    def result(self) -> Result:
        """Return the start, which the guard may go back to; the epochs lie beside it.

        Without any epoch the guard reads what the start says of the held-out images.
        """
        if not self.num_epochs:
            start = {str(0.0): self._guard_logits()}
            write_tensors(self._job.folder, HELD_OUT_LOGITS.format(0), start, {})
        facts = {LEFT_OUT: self._rows.left_out}
        return Result(self._start, {"images": self._held_out}, facts)

    def _training_set(self) -> tuple[TrainingSet, list[Unlabeled]]:
        """Return the clean set, and after it, for CoFT+, all images that are not held out."""
        rows, job = self._rows, self._job
        if job.plus is None:
            return TrainingSet(rows.labels, self._pixels_of(rows.ids, rows.uris).load), []
        ids, uris = unlabeled_rows(job.clean, job.images, most=job.spec.max_images)
        pixels = self._pixels_of([*rows.ids, *ids], [*rows.uris, *uris])
        labels = torch.cat([rows.labels, torch.full((len(ids),), NO_LABEL)])
        return TrainingSet(labels, pixels.load), list(self._helpers(job.plus, len(ids)))

    def _helpers(self, plus: PlusSpec, num_images: int) -> Iterator[Unlabeled]:
        """Yield what learns from images without labels, as far as it is switched on."""
        views = {"flip": self._job.flip, "colours": plus.colours}
        if plus.contrast.weight:
            options = plus.contrast.model_dump()
            options["queue_size"] = resolve_queue_size(options["queue_size"], num_images=num_images)
            yield MomentumContrast(self._network, **options, **views)
        if plus.consistency.weight:
            prior = class_shares(self._job.clean, self._job.task)
            yield Consistency(self._network, prior=prior, **plus.consistency.model_dump(), **views)

    def _pixels_of(self, ids: Sequence[str], uris: Sequence[str]) -> TrainingPixels:
        job, preprocess = self._job, self._network.visual.preprocess
        pixels = pixels_of_run(preprocess, job.limits, job.pixel_cache, device=self._device)
        return TrainingPixels(pixels, ids, uris)

    @torch.inference_mode()
    def _guard_logits(self) -> Tensor:
        """Return logits of shape (held-out images, classes), on the CPU."""
        if not self._held_out:
            return torch.zeros(0, self._network.head.out_features)
        self._network.eval()
        encode = Encoder(self._network.visual)
        batch_size = BatchSize.fitting(encode, asked=self._job.batch_size)
        positions = torch.arange(len(self._held_out)).split(batch_size.images)
        logits = [
            self._network.logits(*batch_size.run(lambda x: (encode(x),), pixels))
            for pixels in self._guard.load(positions)
        ]
        return torch.cat(logits).cpu()


def _say_left_out(rows: TrainingRows, job: NetworkJob) -> None:
    if rows.left_out:
        say(
            f"Phase II, peer {job.peer}: learns from {len(rows.ids):,} of "
            f"{len(rows.ids) + rows.left_out:,} kept labels, the same share of each class "
            "(--phase2.max-images)"
        )


def start_network(job: NetworkJob, *, device: str) -> Network:
    """Return the network that Phase II starts from, with a head from a peer's positive prompts.

    Its tower is the peer's own (`start="phase1"`: it predicts exactly as the peer did), or CLIP's
    with the original weights (`start="original"`, as the paper has it). A student has another tower
    than the peers: it starts as CLIP, with a head from sentences.
    """
    backbone = load_backbone(job.backbone.name, device=device)
    if job.sentences:
        with torch.no_grad():
            embeddings = sentence_embeddings(backbone, job.sentences)
        return new_network(backbone.visual, embeddings, backbone.logit_scale)
    if job.spec.start == "phase1":
        attach_learned(backbone.visual, job.start.uri).merge()
    head = read_dual_head(job.start.uri).positive
    return new_network(backbone.visual, head.embeddings.to(device), head.logit_scale)


@step("fine-tune")
def finetune_each(  # noqa: PLR0913, PLR0917  # what Phase II depends on
    clean: Sequence[LabelsRef],
    peers: Sequence[PeerRef],
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    run: Run,
    sentences: SentencesRef | None = None,
    *,
    number: int = 0,
) -> tuple[PeerRef, ...]:
    """Train one whole network on each clean set, side by side (CoFT Eq. 7, CoFT+ Eq. 10).

    A further round, with a `number`, starts from where the first one did.

    Each epoch ends in a checkpoint. The weights of every epoch stay, with what they predict for the
    held-out images, so that the guard can choose among them.
    """
    jobs = [
        replace(_job(labels, peer, images, task, backbone, spec, sentences), round=number)
        for labels, peer in zip(clean, peers, strict=True)
    ]
    trained = train_jobs(
        NetworkTrainer,
        jobs,
        spec.runtime,
        label="Phase II",
        on_epoch=lambda row: log_history(run, [row]),
    )
    return peer_refs(jobs, trained)


def _job(  # noqa: PLR0913, PLR0917  # as `finetune_each`
    clean: LabelsRef,
    start: PeerRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    sentences: SentencesRef | None,
) -> NetworkJob:
    plus = _of_unlabeled(spec)
    said = sentences_of(sentences, task.classes, spec.label.templates) if spec.student else ()
    made_from = (clean.digest, start.digest, backbone, spec.phase2, spec.seed, spec.flip)
    more = [value for value in (plus, said) if value]
    digest = fingerprint("phase2", *made_from, *more)
    return NetworkJob(
        peer=start.peer,
        folder=in_workspace(spec.runtime.workspace, Folder.PEERS, digest),
        digest=digest,
        backbone=backbone,
        clean=clean,
        start=start,
        images=images,
        task=task,
        spec=spec.phase2,
        seed=spec.seed,
        flip=spec.flip,
        limits=spec.pool,
        plus=plus,
        sentences=said,
        batch_size=spec.runtime.batch_size,
        pixel_cache=spec.runtime.pixel_cache,
    )


def _of_unlabeled(spec: CoftSpec) -> PlusSpec | None:
    """Return what CoFT+ learns from images without labels, and no other setting of it."""
    plus = spec.plus
    if spec.method != "coft-plus" or not (plus.contrast.weight or plus.consistency.weight):
        return None
    names = ("contrast", "consistency", "colours")
    return PlusSpec(**{name: getattr(plus, name) for name in names})


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
