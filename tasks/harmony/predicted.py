"""Images whose labels are what a registered model says of them, where it is sure enough."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from tasks.annotations.spelling import Names
from tasks.embed import embed_pool
from tasks.harmony.specs import PredictedSpec
from tasks.harmony.survey import Survey
from tasks.pool.open import open_images
from tasks.pool.shards import ID, Shard, shards
from tasks.predict import predict_pool
from tasks.progress import say
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, PredictionsRef
from tasks.specs import CoftSpec, InputError, PoolSpec, RuntimeSpec
from tasks.storage.columns import class_numbers
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import join
from tasks.tracking.registry_model import find_model

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

_FEATURES, _SAID = 0, 1  # the stages of a shard


@dataclass(frozen=True)
class PredictedLook:
    """Images, their features, and what a model says of them.

    Attributes:
        images: Which they are.
        embeddings: As a tower sees them.
        predictions: Of the model.
        classes: Of the model.
        min_confidence: From which on it is believed.
    """

    images: ImagesRef
    embeddings: EmbeddingsRef
    predictions: PredictionsRef
    classes: tuple[str, ...]
    min_confidence: float

    def shards(self) -> list[Shard]:
        """Return the images part by part, with features and predictions."""
        return shards(self.images, self.embeddings, self.predictions)

    def believed(self, shard: Shard) -> "pa.Table":
        """Return (image_id, label) of the images of a part of which the model is sure enough."""
        said = shard.read(_SAID, [ID, "label", "confidence"], "pool")
        return said.filter(pc.greater_equal(said["confidence"], self.min_confidence))


@dataclass(frozen=True)
class PredictedSamples:
    """Features and class numbers of images, as a stage reads them."""

    look: PredictedLook
    classes: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple["Tensor", "Tensor"]]:
        """Yield features (batch, width) and class numbers (batch), a shard at a time."""
        names = Names(self.classes)
        for shard in self.look.shards():
            ids, features = shard.features(_FEATURES, "pool")
            believed = self.look.believed(shard)
            places = pc.index_in(ids, believed[ID].combine_chunks())
            labels = believed["label"].combine_chunks().take(places)
            numbers = class_numbers(self.classes, names.find_all(labels))
            known = numbers >= 0
            if known.any():
                yield features[known], numbers[known]


def open_predicted(
    pool: PoolSpec, predicted: PredictedSpec, backbone: BackboneRef, runtime: RuntimeSpec
) -> PredictedLook:
    """List, read, embed and classify images.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    images = open_images(pool, runtime, for_training=False)
    spec = CoftSpec(pool=pool, runtime=runtime)
    embeddings = embed_pool(images, backbone, spec)
    model = find_model(predicted.model, runtime)
    said = predict_pool(model, images, spec)
    classes = tuple(read_json(join(model.uri, DESCRIPTION))["classes"])
    return PredictedLook(images, embeddings, said, classes, predicted.min_confidence)


def survey_predicted(look: PredictedLook) -> Survey:
    """Count what the model says.

    Raises:
        InputError: it is sure of no image.
    """
    labels = Counter[str]()
    for shard in look.shards():
        labels.update(look.believed(shard)["label"].to_pylist())
    num_train, num_pool = labels.total(), look.images.num_pool
    if not num_train:
        raise InputError(
            f"the model is sure of none of the {num_pool:,} images, from a confidence of "
            f"{look.min_confidence:g}; lower --predicted.min-confidence, or label some."
        )
    say(f"The model labels {num_train:,} of {num_pool:,} images, surer than the bound.")
    made_from = (look.images.digest, look.embeddings.digest, look.predictions.digest)
    return Survey(
        width=look.embeddings.dim,
        num_train=num_train,
        num_test=0,
        num_unlabelled=num_pool - num_train,
        labels=dict(sorted(labels.items())),
        content=fingerprint("predicted look", *made_from, look.min_confidence),
    )
