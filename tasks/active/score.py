"""Label the whole pool with the learner of a round, shard by shard."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from clipcore import checkpoint
from clipcore.dual import CachedFeatures
from tasks.active.learn import Scores, score_images
from tasks.active.rounds import SCORES, Rounds
from tasks.active.train import CORRECTION, LearnerRef
from tasks.compute.cluster import run_tasks
from tasks.progress import progress
from tasks.refs import EmbeddingsRef, PoolRef, Ref
from tasks.storage.columns import read_features
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, local_copy
from tasks.storage.manifest import Part, part_name
from tasks.storage.stage import Outcome, once, part_uris, step
from tasks.storage.tables import count_rows, write_table
from tasks.storage.uris import join
from tasks.weights import WEIGHTS


class ScoresRef(Ref):
    """`scores/part-*.parquet` of (image_id, label, confidence, gap, p_clean, probabilities)."""


@step("score pool")
def score_pool(
    rounds: Rounds, learner: LearnerRef, seen: EmbeddingsRef, pool: PoolRef
) -> ScoresRef:
    """Write what the learner says of every image, test split included, one task for each shard."""
    folder = join(rounds.round_folder(rounds.number), SCORES)
    digest = fingerprint("scores", learner.digest)
    runtime = rounds.spec.active.run.runtime

    def compute() -> Outcome:
        parts = part_uris(seen.uri)
        names = [part_name(number, digest) for number, _ in enumerate(parts)]
        items = [
            (learner.uri, uri, join(folder, name), pool.classes)
            for uri, name in zip(parts, names, strict=True)
            if not exists(join(folder, name))
        ]
        with progress("Score", seen.rows) as advance:
            for _, rows in run_tasks(_score_part, items, runtime=runtime):
                advance(rows)
        uris = [join(folder, name) for name in names]
        return Outcome([Part(name=n, rows=count_rows(u)) for n, u in zip(names, uris, strict=True)])

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
        """Return what the image side learned, by the names of `adapters.Bottleneck`, if it did."""
        return checkpoint.under(CORRECTION, self.tensors)

    def score(self, features: Tensor) -> Scores:
        """Return what the learner says of images by the features that it reads."""
        positive = self.tensors["positive"]
        images = CachedFeatures(positive.shape[1], generator=torch.Generator())
        if self.correction:
            images.restore(self.correction)
        scale = float(self.tensors["logit_scale"])
        return score_images(images, positive, self.tensors["negative"], scale, features)


def read_learner(folder: str) -> RoundModel:
    """Return a round's learner as far as scoring needs it."""
    with local_copy(join(folder, WEIGHTS)) as path:
        return RoundModel(tensors=checkpoint.read(str(path))[0])


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
    write_table(uri, table)
    return len(ids)
