"""What the pool says of sets of class sentences: sums over its images, part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clipcore.head import Head
from clipcore.sentences import Sums, sums_of
from clipcore.zero_shot import sentence_embeddings
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.pool.shards import Shard, shards
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef
from tasks.sentences.candidates import Sentences
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.checkpoints import read_tensors, write_tensors

_SCALE = "logit_scale"
_SET = "set/"  # before the name of a set in a file of class embeddings


@dataclass(frozen=True)
class Judges:
    """The images that judge class sentences, and the text tower that reads these.

    Attributes:
        folder: Where class embeddings are written.
        embeddings: The images as the tower sees them.
        images: Which of them are the pool.
        backbone: The CLIP.
        runtime: Where to run.
    """

    folder: str
    embeddings: EmbeddingsRef
    images: ImagesRef
    backbone: BackboneRef
    runtime: RuntimeSpec

    @property
    def shards(self) -> list[Shard]:
        """Return the images in parts."""
        return shards(self.images, self.embeddings)

    def encode(self, file: str, sets: Mapping[str, Sentences]) -> None:
        """Write the class embeddings of sets of sentences; a worker has the text tower."""
        texts = {name: list(sentences.values()) for name, sentences in sets.items()}
        work = [(self.folder, file, self.backbone.name, texts)]
        list(run_tasks(_encode, work, runtime=self.runtime))

    def weigh(self, file: str) -> dict[str, Sums]:
        """Return what the softmax of each set adds up to over the pool.

        Raises:
            InputError: there is no image in it.
        """
        items = [(self.folder, file, shard) for shard in self.shards]
        total: dict[str, Sums] = {}
        for _, sums in run_tasks(_sums_of_part, items, runtime=self.runtime):
            for name, own in sums.items():
                total[name] = total[name] + own if name in total else own
        if not total:
            raise InputError("no image is left to choose class sentences by; give more images")
        return total


def heads_in(folder: str, file: str) -> dict[str, Head]:
    """Return the heads that class embeddings make, by the name of their set."""
    tensors, _ = read_tensors(folder, file)
    scale = float(tensors.pop(_SCALE))
    return {name.removeprefix(_SET): Head(found, scale) for name, found in tensors.items()}


def _encode(
    folder: str, file: str, backbone: str, sets: Mapping[str, Sequence[Sequence[str]]]
) -> None:
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        found = {_SET + name: sentence_embeddings(loaded, texts) for name, texts in sets.items()}
    write_tensors(folder, file, {**found, _SCALE: torch.tensor(loaded.logit_scale)}, {})


def _sums_of_part(folder: str, file: str, shard: Shard) -> dict[str, Sums]:
    _, features = shard.features(split="pool")
    if not len(features):
        return {}
    heads = heads_in(folder, file)
    return {name: sums_of(head.probabilities(features)) for name, head in heads.items()}
