"""Train the learner of a round, and label the whole pool with it, shard by shard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore import checkpoint, cleaning
from clipcore.active.learner import CachedFeatures
from tasks import shards
from tasks.active.learn import Known, Scores, new_learner, score_features, train
from tasks.active.session import AnswersRef, Rounds
from tasks.active.start import StartRef, read_beginning
from tasks.cluster import run_tasks
from tasks.label.parts import Candidates, candidates, class_numbers, merge_top, only_pool
from tasks.progress import progress, say
from tasks.shards import Part
from tasks.specs import BackboneRef, PoolRef, Ref
from tasks.stage import Outcome, once, part_uris, step
from tasks.towers import load_backbone
from tasks.vectors import read_features

LEARNER = "learner.safetensors"
SCORES = "scores"


class LearnerRef(Ref):
    """A round's `learner.safetensors`: what it learned, and its class embeddings of both signs."""

    num_labels: int
    num_pseudo: int


class ScoresRef(Ref):
    """`scores/part-*.parquet` of (image_id, label, confidence, gap, p_clean, probabilities)."""


@dataclass(frozen=True)
class RoundJob:
    """What the training of a round is told."""

    folder: str
    answers: AnswersRef
    start: StartRef
    pool: PoolRef
    backbone: BackboneRef
    rounds: Rounds
    last_scores: str | None


@step("train round")
def train_round(
    rounds: Rounds, answers: AnswersRef, start: StartRef, pool: PoolRef, backbone: BackboneRef
) -> LearnerRef:
    """Train a fresh learner on all answers and on what the round before was surest of (3.3)."""
    folder = rounds.round_folder(rounds.number)
    last = rounds.round_folder(rounds.number - 1) if rounds.number else None
    job = RoundJob(
        folder, answers, start, pool, backbone, rounds, last and shards.join(last, SCORES)
    )
    elsewhere: Any = {"active": {"run": {"runtime", "command"}}}  # another place, the same round
    settings = rounds.spec.model_dump(mode="json", exclude=elsewhere)
    digest = shards.fingerprint("learner", settings, rounds.number, answers.digest)

    def compute() -> Outcome:
        say(f"Round {rounds.number}: training")
        runtime = rounds.spec.active.run.runtime
        ((_, facts),) = run_tasks(_train, [(job,)], runtime=runtime)
        return Outcome(parts=(), facts=facts)

    manifest, resumed = once(
        shards.join(folder, "learner"),
        kind="learner",
        digest=digest,
        label="Train",
        compute=compute,
    )
    return LearnerRef(
        uri=shards.join(folder, "learner"),
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        num_labels=int(str(manifest.facts["labels"])),
        num_pseudo=int(str(manifest.facts["pseudo"])),
    )


@step("score pool")
def score_pool(rounds: Rounds, learner: LearnerRef, start: StartRef, pool: PoolRef) -> ScoresRef:
    """Write what the learner says of every image, test split included, one task for each shard."""
    folder = shards.join(rounds.round_folder(rounds.number), SCORES)
    digest = shards.fingerprint("scores", learner.digest)
    runtime = rounds.spec.active.run.runtime

    def compute() -> Outcome:
        parts = part_uris(start.features.uri)
        names = [shards.part_name(number, digest) for number, _ in enumerate(parts)]
        items = [
            (learner.uri, uri, shards.join(folder, name), pool.classes)
            for uri, name in zip(parts, names, strict=True)
            if not shards.exists(shards.join(folder, name))
        ]
        with progress("Score", start.features.rows) as advance:
            for _, rows in run_tasks(_score_part, items, runtime=runtime):
                advance(rows)
        uris = [shards.join(folder, name) for name in names]
        return Outcome(
            [Part(name=n, rows=shards.count_rows(u)) for n, u in zip(names, uris, strict=True)]
        )

    manifest, resumed = once(folder, kind="scores", digest=digest, label="Score", compute=compute)
    return ScoresRef(
        uri=folder, digest=digest, rows=manifest.rows, seconds=manifest.seconds, resumed=resumed
    )


@dataclass(frozen=True)
class RoundModel:
    """What scoring needs of a learner: its image side and its class embeddings."""

    tensors: Mapping[str, Tensor]

    @property
    def correction(self) -> dict[str, Tensor]:
        """Return what the image side learned, by the names of `adapters.Bottleneck`."""
        return checkpoint.under("images", self.tensors)

    def score(self, features: Tensor) -> Scores:
        """Return what the learner says of images by the features of the start."""
        positive = self.tensors["positive"]
        images = CachedFeatures(positive.shape[1], generator=torch.Generator())
        images.restore(self.correction)
        scale = float(self.tensors["logit_scale"])
        return score_features(images, positive, self.tensors["negative"], scale, features)


def read_learner(folder: str) -> RoundModel:
    """Return a round's learner as far as scoring needs it."""
    with shards.local_copy(shards.join(folder, LEARNER)) as path:
        return RoundModel(tensors=checkpoint.read(str(path))[0])


def _train(job: RoundJob) -> dict[str, int]:
    """Train in a worker, on one thread: sums do not depend on how many cores there are."""
    torch.set_num_threads(1)
    spec = job.rounds.spec.active
    answers = shards.read_table(job.answers.uri, ["image_id", "kind", "label"]).to_pylist()
    labels = {row["image_id"]: row["label"] for row in answers if row["kind"] == "label"}
    closed = {row["image_id"] for row in answers if row["kind"] in ("label", "none")}
    believed = _believed(job, closed) if spec.learner.pseudo_labels or not labels else {}
    wanted = {**{image: job.pool.classes.index(k) for image, k in labels.items()}, **believed}
    features, numbers, answered = _gather(job, wanted, set(labels))
    learner = new_learner(
        load_backbone(job.backbone.name),
        job.pool.classes,
        spec.learner,
        dim=job.backbone.embed_dim,
        seed=spec.run.seed,
    )
    train(
        learner,
        Known(features[answered], numbers[answered], features[~answered], numbers[~answered]),
        spec.learner,
        seed=spec.run.seed,
    )
    positive, negative = learner.class_embeddings()
    tensors = {
        **learner.tensors(),
        "positive": positive,
        "negative": negative,
        "logit_scale": torch.tensor(learner.logit_scale),
    }
    data = checkpoint.to_bytes(tensors, {"round": job.rounds.number})
    shards.write_bytes(shards.join(job.folder, "learner", LEARNER), data)
    return {"labels": int(answered.sum()), "pseudo": int((~answered).sum())}


def _believed(job: RoundJob, closed: set[str]) -> dict[str, int]:
    """Return image id -> class of the surest images of each class that have no answer."""
    num_classes = len(job.pool.classes)
    spec = job.rounds.spec.active.learner
    per_class = cleaning.resolve_per_class(
        spec.per_class, num_classes=num_classes, minimum_total=spec.min_pseudo
    )
    surest: list[Candidates] = []
    for number, (ids, labels, confidence) in enumerate(_opinions(job)):
        rows = pa.table({"image_id": ids, "row": pa.array(range(len(ids)))})
        free = only_pool(rows, job.pool.uri, number)
        free = free.filter(
            pc.invert(pc.is_in(free["image_id"], pa.array(sorted(closed), pa.string())))
        )
        keep = torch.from_numpy(free["row"].to_numpy().copy())
        surest.append(
            candidates(
                free["image_id"],
                labels[keep],
                confidence[keep],
                shard=number,
                num_classes=num_classes,
                per_class=per_class,
            )
        )
    return merge_top(surest, num_classes=num_classes, per_class=per_class)


def _opinions(job: RoundJob) -> Any:
    """Yield (ids, class numbers, how sure) of every shard: the last round's, or the start's."""
    if job.last_scores is not None:
        for table in shards.iter_tables(job.last_scores, ["image_id", "label", "gap"]):
            labels = class_numbers(job.pool.classes, table["label"])
            yield table["image_id"], labels, torch.from_numpy(table["gap"].to_numpy().copy())
        return
    beginning = read_beginning(job.start)
    for uri in part_uris(job.start.features.uri):
        ids, features = read_features(uri)
        logits = beginning.logit_scale * features @ beginning.embeddings.T
        confidence, labels = logits.softmax(dim=1).max(dim=1)
        yield ids, labels, confidence


def _gather(
    job: RoundJob, wanted: Mapping[str, int], answered: set[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, class numbers and whether answered, of the wanted images in order of id.

    Images of the test split are never among them, whatever was answered about them.
    """
    ids = pa.array(sorted(wanted), pa.string())
    found: dict[str, Tensor] = {}
    for number, uri in enumerate(part_uris(job.start.features.uri)):
        names, features = read_features(uri)
        rows = pa.table({"image_id": names, "row": pa.array(range(len(names)))})
        rows = only_pool(rows.filter(pc.is_in(names, ids)), job.pool.uri, number)
        for image, row in zip(rows["image_id"].to_pylist(), rows["row"].to_pylist(), strict=True):
            found[image] = features[row]
    order = sorted(found)
    features = torch.zeros(0, job.start.features.dim)
    if order:
        features = torch.stack([found[image] for image in order])
    numbers = torch.tensor([wanted[image] for image in order], dtype=torch.long)
    return features, numbers, torch.tensor([image in answered for image in order], dtype=torch.bool)


def _score_part(learner: str, features_uri: str, uri: str, classes: tuple[str, ...]) -> int:
    """Write one shard of scores, and return how many images it has."""
    ids, features = read_features(features_uri)
    found = read_learner(learner).score(features)
    confidence, predicted = found.probabilities.max(dim=1)
    table = pa.table(
        {
            "image_id": ids,
            "label": pa.array([classes[k] for k in predicted.tolist()], pa.string()),
            "confidence": pa.array(confidence.numpy(), pa.float32()),
            "gap": pa.array(found.gap.numpy(), pa.float32()),
            "p_clean": pa.array(found.p_clean.numpy(), pa.float32()),
            "probabilities": pa.array(list(found.probabilities.numpy()), pa.list_(pa.float32())),
        }
    )
    shards.write_table(uri, table)
    return len(ids)
