"""Train the learner of a round: on features in a task, or through the tower in an actor."""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import JsonValue

from clipcore import checkpoint
from clipcore.backbone import Backbone
from clipcore.dual import Learner
from tasks.active.learn import Known, Training, known_of, new_learner, train
from tasks.active.rounds import SCORES, Rounds
from tasks.active.start import StartRef, load_start, read_beginning
from tasks.active.training_set import RoundJob, lesson_features, lesson_uris, read_lesson
from tasks.backbone import load_backbone
from tasks.compute.cluster import actors, ensure_ray, result, run_tasks
from tasks.compute.epochs import Checkpoints, drive
from tasks.compute.placement import shares
from tasks.images.disk_cache import Spool
from tasks.progress import say
from tasks.refs import AnswersRef, BackboneRef, PoolRef, Ref
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.tracking.runs import Run
from tasks.weights import WEIGHTS, learner_adapter

ADAPTER = "adapter"  # of tensors that go on the tower
CORRECTION = "correction"  # of tensors that correct features
LEARNER = "learner"


class LearnerRef(Ref):
    """A round's `learner/weights.safetensors`: what it learned, and its class embeddings."""

    num_labels: int
    num_pseudo: int


@step("train round")
def train_round(
    rounds: Rounds,
    answers: AnswersRef,
    start: StartRef,
    pool: PoolRef,
    backbone: BackboneRef,
    run: Run,
) -> LearnerRef:
    """Train a fresh learner on all answers and on what the round before was surest of (3.3)."""
    folder = join(rounds.round_folder(rounds.number), LEARNER)
    last = rounds.round_folder(rounds.number - 1) if rounds.number else None
    job = RoundJob(folder, answers, start, pool, backbone, rounds, last and join(last, SCORES))
    elsewhere: Any = {"active": {"run": {"runtime", "command"}}}  # another place, the same round
    settings = rounds.spec.model_dump(mode="json", exclude=elsewhere)
    digest = fingerprint("learner", settings, rounds.number, answers.digest)

    def compute() -> Outcome:
        say(f"Round {rounds.number}: training")
        through = _train_on_features if job.spec.learner.on_features else _train_through_tower
        return Outcome(parts=(), facts=through(job, run))

    manifest, resumed = once(folder, kind=LEARNER, digest=digest, label="Train", compute=compute)
    return LearnerRef(
        uri=folder,
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        num_labels=int(str(manifest.facts["labels"])),
        num_pseudo=int(str(manifest.facts["pseudo"])),
    )


def _train_on_features(job: RoundJob, _run: Run) -> Mapping[str, JsonValue]:
    """Train in a task: it takes seconds, and is done again if it is lost."""
    ((_, facts),) = run_tasks(_train, [(job,)], runtime=job.spec.run.runtime)
    return cast("Mapping[str, JsonValue]", facts)


def _train(job: RoundJob) -> dict[str, int]:
    """Train on one thread: sums do not depend on how many cores there are."""
    torch.set_num_threads(1)
    lesson = read_lesson(job)
    learner = _new_learner(job, load_backbone(job.backbone.name))
    features = lesson_features(job, lesson.ids)
    known = known_of(lesson.answers, lesson.pseudo_labels, features.__getitem__)
    train(learner, known, job.spec.learner, seed=job.spec.run.seed)
    _write(job, learner, CORRECTION, {})
    return lesson.facts


def _train_through_tower(job: RoundJob, run: Run) -> Mapping[str, JsonValue]:
    """Train in an actor with a device of its own, which goes on from its last whole epoch."""
    runtime = job.spec.run.runtime
    ensure_ray(runtime)
    share = shares(runtime, most=1)
    with actors(RoundActor, [(job, share.device)], share) as started:
        drive(started, f"Round {job.rounds.number}", run)
        return cast("Mapping[str, JsonValue]", result(started[0].facts.remote()))


class RoundActor:
    """A round's learner in training on pixels. It starts from its checkpoint, if there is one."""

    def __init__(self, job: RoundJob, device: str) -> None:
        self.job = job
        self.lesson = read_lesson(job)
        backbone = load_start(job.backbone.name, job.start, device=device)
        spool = Spool(backbone.visual.preprocess, max_pixels=job.spec.run.pool.max_pixels)
        spool.fill(lesson_uris(job, self.lesson.ids))
        learner = _new_learner(job, backbone)
        known = Known(self.lesson.answers, self.lesson.pseudo_labels, spool.load_pixels)
        self.training = Training(learner, known, job.spec.learner, seed=job.spec.run.seed)
        self.checkpoints = Checkpoints(job.folder)
        weights, self.history = self.checkpoints.read(self.training.optimizer)
        if weights:
            learner.restore(weights)

    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self.training.num_epochs

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and write its checkpoint, or return what a finished one measured."""
        for means in self.training.run(range(len(self.history), epoch + 1)):
            self.history.append({"epoch": len(self.history), **means})
            tensors = self.training.learner.tensors()
            optimizer = self.training.optimizer
            self.checkpoints.write(len(self.history), tensors, optimizer, self.history)
        return self.history[epoch]

    def finish(self) -> None:
        """Write what was learned, with the class embeddings of both signs."""
        attach = learner_adapter(self.job.spec.learner, self.job.backbone.kind)
        _write(self.job, self.training.learner, ADAPTER, {"attach": attach})
        self.checkpoints.remove()

    def facts(self) -> dict[str, int]:
        """Return how many labels of each kind there were."""
        return self.lesson.facts


def _new_learner(job: RoundJob, backbone: Backbone) -> Learner:
    """Return the learner of the round before it has seen anything."""
    given = F.normalize(read_beginning(job.start).embeddings, dim=1)
    run = job.spec.run
    return new_learner(
        backbone, job.pool.classes, job.spec.learner, given=given, seed=run.seed, flip=run.flip
    )


def _write(job: RoundJob, learner: Learner, side: str, header: Mapping[str, Any]) -> None:
    """Write what a learner learned, its image side under the name that readers look for."""
    positive, negative = learner.class_embeddings()
    tensors = {
        **checkpoint.prefixed("prompts", learner.prompts.state_dict()),
        **checkpoint.prefixed(side, learner.images.tensors()),
        "positive": positive,
        "negative": negative,
        "logit_scale": torch.tensor(learner.logit_scale),
    }
    data = checkpoint.to_bytes(tensors, {"round": job.rounds.number, **header})
    write_bytes(join(job.folder, WEIGHTS), data)
