"""Images of a look as samples: listed, read and embedded as all of coft's images are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.annotations.spelling import Names
from tasks.embed import embed_pool
from tasks.harmony.survey import Survey
from tasks.pool.open import open_images
from tasks.pool.readers import value_of
from tasks.pool.shards import shards
from tasks.pool.task import open_task
from tasks.pool.truth import TrueLabels
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, Split, TaskRef
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.columns import class_numbers
from tasks.storage.digests import fingerprint
from tasks.storage.manifest import iter_tables

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Look:
    """Images, their features and their labels.

    Attributes:
        images: Which they are.
        embeddings: As a tower sees them.
        task: Their labels.
    """

    images: ImagesRef
    embeddings: EmbeddingsRef
    task: TaskRef


@dataclass(frozen=True)
class LabelledLook:
    """Features and class numbers of images, as a stage reads them; those without are left out."""

    look: Look
    classes: tuple[str, ...]
    split: Split | None = None

    def __iter__(self) -> Iterator[tuple["Tensor", "Tensor"]]:
        """Yield features (batch, width) and class numbers (batch), a shard at a time."""
        names, truth = Names(self.classes), TrueLabels(self.look.task)
        for shard in shards(self.look.images, self.look.embeddings):
            ids, features = shard.features(split=self.split)
            said = value_of(truth.about(ids), ids, "label")
            numbers = class_numbers(self.classes, names.find_all(said))
            known = numbers >= 0
            if known.any():
                yield features[known], numbers[known]


def open_look(
    pool: PoolSpec, backbone: BackboneRef, runtime: RuntimeSpec, *, for_training: bool = True
) -> Look:
    """List, read and embed labelled images.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    images = open_images(pool, runtime, for_training=for_training)
    task = open_task(images, pool, runtime)
    spec = CoftSpec(pool=pool, runtime=runtime)
    return Look(images, embed_pool(images, backbone, spec), task)


def survey_look(look: Look) -> Survey:
    """Count the labels of images; no feature is read."""
    labels: dict[str, int] = {}
    num_test = 0
    for table in iter_tables(look.task.uri, ["split", "label"]):
        for row in table.to_pylist():
            if row["split"] == "test":
                num_test += 1
            else:
                labels[row["label"]] = labels.get(row["label"], 0) + 1
    num_train = sum(labels.values())
    return Survey(
        width=look.embeddings.dim,
        num_train=num_train,
        num_test=num_test,
        num_unlabelled=look.images.num_pool - num_train,
        labels=dict(sorted(labels.items())),
        content=fingerprint("look", look.images.digest, look.embeddings.digest, look.task.digest),
    )
