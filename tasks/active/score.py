"""Label the whole pool with the learner of a round, part by part."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from clipcore import checkpoint
from clipcore.active.scores import Scores, score
from clipcore.image_sides import CachedFeatures
from tasks.active.rounds import SCORES, Rounds
from tasks.active.train import LearnerRef
from tasks.compute.map_parts import write_missing
from tasks.pool.shards import Shard, shards
from tasks.refs import EmbeddingsRef, ImagesRef, Ref, TaskRef
from tasks.storage.checkpoints import read_tensors
from tasks.storage.columns import class_names
from tasks.storage.digests import fingerprint
from tasks.storage.manifest import Part
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import count_rows, write_table
from tasks.storage.uris import join
from tasks.weights import dual_head_of


class ScoresRef(Ref):
    """`scores/part-*.parquet` of (image_id, label, confidence, gap, p_clean, probabilities)."""


@step("score pool")
def score_pool(
    rounds: Rounds,
    learner: LearnerRef,
    features: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
) -> ScoresRef:
    """Write what the learner says of every image, test split included, one task for each part.

    Args:
        rounds: The rounds.
        learner: Of this round.
        features: Those that it corrects or that its tower gave.
        images: The images.
        task: The classes.
    """
    folder = join(rounds.round_folder(rounds.number), SCORES)
    digest = fingerprint("scores", learner.digest)
    runtime = rounds.spec.active.run.runtime

    def compute() -> Outcome:
        parts = shards(images, features)
        names = [part.span.file_name(digest) for part in parts]
        uris = [join(folder, name) for name in names]
        work = {
            uri: (learner.uri, part, uri, task.classes)
            for part, uri in zip(parts, uris, strict=True)
        }
        write_missing(_score_part, work, runtime, label="Score", total=features.rows)
        return Outcome([Part(name=name, rows=count_rows(join(folder, name))) for name in names])

    manifest, resumed = once(folder, kind="scores", digest=digest, label="Score", compute=compute)
    return ScoresRef(
        uri=folder, digest=digest, rows=manifest.rows, seconds=manifest.seconds, resumed=resumed
    )


@dataclass(frozen=True)
class RoundModel:
    """What scoring needs of a learner: its correction of features and its class embeddings."""

    tensors: Mapping[str, Tensor]

    @property
    def correction(self) -> dict[str, Tensor]:
        """Return the learned correction, by the names of `adapters.Bottleneck`; empty if none."""
        return checkpoint.under(CachedFeatures.name, self.tensors)

    @property
    def class_embeddings(self) -> Tensor:
        """Return the normalised text features of the classes."""
        return dual_head_of(dict(self.tensors)).positive.embeddings

    def score(self, features: Tensor) -> Scores:
        """Return the scores of images by the features that the learner reads."""
        head = dual_head_of(dict(self.tensors))
        dim = head.negative.shape[1]
        images = CachedFeatures(dim, generator=torch.Generator())  # the identity when new
        if self.correction:
            images.restore(self.correction)
        return score(images, head, features)


def read_learner(folder: str) -> RoundModel:
    """Return a round's learner as far as scoring needs it."""
    return RoundModel(tensors=read_tensors(folder)[0])


def _score_part(learner: str, part: Shard, uri: str, classes: tuple[str, ...]) -> int:
    """Write one part of scores, and return how many images it has."""
    ids, features = part.features()
    scores = read_learner(learner).score(features)
    confidence, predicted = scores.probabilities.max(dim=1)
    table = pa.table(
        {
            "image_id": ids,
            "label": class_names(classes, predicted),
            "confidence": pa.array(confidence.numpy(), pa.float32()),
            "gap": pa.array(scores.gap.numpy(), pa.float32()),
            "p_clean": pa.array(scores.p_clean.numpy(), pa.float32()),
            "probabilities": pa.array(list(scores.probabilities.numpy()), pa.list_(pa.float32())),
        }
    )
    write_table(uri, table)
    return len(ids)
