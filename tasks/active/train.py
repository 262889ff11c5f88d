"""Train the learner of a round: on features in a task, or through the tower in an actor."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.active.training import RoundSet
from clipcore.backbone import VisualTower
from clipcore.fit import PixelLoader, loader
from tasks.active.checks import learner_adapter
from tasks.active.learners import RoundTraining, new_learner
from tasks.active.rounds import SCORES, Rounds
from tasks.active.start import StartRef, load_start, read_start_head
from tasks.active.training_set import RoundJob, read_start_features, read_training_set
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.compute.epochs import Result, train_here, train_jobs
from tasks.images.pixels import pixels_of_run
from tasks.images.training_pixels import TrainingPixels
from tasks.pool.readers import uris_of
from tasks.progress import say
from tasks.refs import AnswersRef, BackboneRef, ImagesRef, Ref, TaskRef
from tasks.storage.checkpoints import Row, read_history
from tasks.storage.digests import fingerprint
from tasks.storage.stage import find_finished, finished, step
from tasks.storage.uris import join
from tasks.tracking.runs import Run, log_history
from tasks.weights import ATTACH, learned_tensors

LEARNER = "learner"


class LearnerRef(Ref):
    """A round's `learner/weights.safetensors`: what it learned, and its class embeddings."""

    num_labels: int
    num_pseudo: int


class RoundTrainer:
    """A round's learner, its training set and SGD: on cached features, or on pixels."""

    def __init__(self, job: RoundJob, device: str) -> None:
        self._job = job
        self._images = read_training_set(job)
        on_features = job.spec.learner.on_features
        name, run = job.backbone.name, job.spec.run
        backbone = (
            load_backbone(name, device=device)
            if on_features
            else load_start(name, job.start, device=device)
        )
        self._learner = new_learner(
            backbone,
            job.task.classes,
            job.spec.learner,
            given=F.normalize(read_start_head(job.start).embeddings, dim=1),
            seed=run.seed,
            flip=run.flip,
        )
        load = self._load_features() if on_features else self._load_pixels(backbone.visual, device)
        data = RoundSet(self._images.answers, self._images.pseudo_labels, load)
        self._training = RoundTraining(self._learner, data, job.spec.learner, seed=run.seed)
        self.optimizer = self._training.optimizer

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self._training.num_epochs

    def tensors(self) -> dict[str, Tensor]:
        """Return the prompts and the image side."""
        return self._learner.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._learner.restore(tensors)

    def train(self, epochs: range) -> Iterator[Row]:
        """Run some epochs."""
        return self._training.run(epochs)

    def result(self) -> Result:
        """Return what was learned, with the class embeddings of both signs."""
        spec, header = self._job.spec.learner, {}
        if not spec.on_features:
            header = {ATTACH: learner_adapter(spec, self._job.backbone.kind)}
        return Result(learned_tensors(self._learner), header, self._images.facts)

    def _load_features(self) -> PixelLoader:
        return loader(read_start_features(self._job, self._images.ids).__getitem__)

    def _load_pixels(self, visual: VisualTower, device: str) -> PixelLoader:
        run, ids = self._job.spec.run, self._images.ids
        bound = run.runtime.pixel_cache
        pixels = pixels_of_run(visual.preprocess, run.pool, bound, device=device)
        return TrainingPixels(pixels, ids, uris_of(self._job.images, ids)).load


@step("train round")
def train_round(  # noqa: PLR0913, PLR0917  # what a round depends on
    rounds: Rounds,
    answers: AnswersRef,
    start: StartRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    run: Run,
) -> LearnerRef:
    """Train a fresh learner on all answers and on the most confident pseudo-labels (3.3)."""
    job = _job(rounds, answers, start, images, task, backbone)
    resumed = find_finished(job.folder, job.digest) is not None
    label = f"Round {rounds.number}"
    if resumed or not job.spec.learner.on_features:
        train_jobs(
            RoundTrainer,
            [job],
            job.spec.run.runtime,
            label=label,
            on_epoch=lambda row: log_history(run, [row]),
        )
    else:
        say(f"{label}: training")
        list(run_tasks(_train_on_features, [(job,)], runtime=job.spec.run.runtime))
        log_history(run, read_history(job.folder))
    manifest = finished(job.folder)
    return LearnerRef(
        uri=job.folder,
        digest=job.digest,
        seconds=manifest.seconds,
        resumed=resumed,
        num_labels=int(str(manifest.facts["labels"])),
        num_pseudo=int(str(manifest.facts["pseudo"])),
    )


def _job(
    rounds: Rounds,
    answers: AnswersRef,
    start: StartRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
) -> RoundJob:
    elsewhere: Any = {"active": {"run": {"runtime", "command"}}}  # another place, the same round
    settings = rounds.spec.model_dump(mode="json", exclude=elsewhere)
    last = rounds.round_folder(rounds.number - 1) if rounds.number else None
    return RoundJob(
        folder=join(rounds.round_folder(rounds.number), LEARNER),
        digest=fingerprint("learner", settings, rounds.number, answers.digest),
        answers=answers,
        start=start,
        images=images,
        task=task,
        backbone=backbone,
        rounds=rounds,
        last_scores=last and join(last, SCORES),
    )


def _train_on_features(job: RoundJob) -> None:
    """Train on one thread: sums do not depend on how many cores there are."""
    torch.set_num_threads(1)
    train_here(RoundTrainer, job)
