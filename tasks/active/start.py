"""What rounds start from: features of every image, and a classifier for the first pseudo-labels."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.oracle import Oracle
from clipcore.active.simulation import Images
from clipcore.backbone import Backbone
from clipcore.backbone_names import Kind
from clipcore.head import Head
from tasks.backbone import adapter_arguments, load_backbone
from tasks.label.by_head import read_head
from tasks.pool.readers import value_of
from tasks.pool.shards import shards
from tasks.pool.truth import TrueLabels
from tasks.refs import (
    BackboneRef,
    EmbeddingsRef,
    ImagesRef,
    LabelsRef,
    ModelRef,
    PeerRef,
    TaskRef,
)
from tasks.specs import InputError, Phase1Spec, Spec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import join
from tasks.weights import (
    attach_learned,
    read_dual_head,
    read_network,
    served_adapters,
)


class StartRef(Spec):
    """Features of a pool, and who names its first pseudo-labels: a peer, a model, or zero-shot.

    Of a model its first network is meant, head included.
    """

    features: EmbeddingsRef
    zero_shot: LabelsRef
    peer: PeerRef | None = None
    model: ModelRef | None = None

    @property
    def digest(self) -> str:
        """Return what changes with anything that the start is made from."""
        learned = [ref.digest for ref in (self.peer, self.model) if ref is not None]
        made_from = (self.features.digest, self.zero_shot.digest, learned)
        return fingerprint("start", *made_from)


def read_start_head(start: StartRef) -> Head:
    """Return the classifier over the features of the start."""
    if start.model is not None:
        return Head.of_linear(read_network(start.model.uri).head)
    if start.peer is None:
        return read_head(start.zero_shot.uri)
    return read_dual_head(start.peer.uri).positive


def load_start(name: str, start: StartRef, *, device: str) -> Backbone:
    """Return the backbone as rounds begin with it, frozen, with what the start learned."""
    backbone = load_backbone(name, device=device)
    if start.model is not None:
        backbone.visual = read_network(start.model.uri).visual.to(device)
    if start.peer is not None:
        attach_learned(backbone.visual, start.peer.uri).merge()
    return backbone.requires_grad_(requires_grad=False)


def start_adapters(start: StartRef, spec: Phase1Spec, kind: Kind) -> list[dict[str, Any]]:
    """Return the adapters that the tower of the start has on it, for a model that is served."""
    if start.model is not None:
        attached: list[dict[str, Any]] = read_description(start.model.uri)["adapters"]
        return attached
    return [] if start.peer is None else served_adapters(adapter_arguments(spec.adapter, kind))


def check_model(model: ModelRef, task: TaskRef, backbone: BackboneRef) -> None:
    """Refuse to start from a classifier of something else.

    Raises:
        InputError: its classes or its backbone are others than those of the rounds.
    """
    description = read_description(model.uri)
    if tuple(description["classes"]) != task.classes:
        raise InputError(
            f"--start: expected a model of these {len(task.classes)} classes, in their order, got "
            f"one of {len(description['classes'])}: {', '.join(description['classes'][:5])}, ..."
        )
    if description["facts"]["backbone"] != backbone.name:
        raise InputError(
            f"--start: the model was adapted from {description['facts']['backbone']}; "
            f"say --backbone {description['facts']['backbone']}."
        )


def read_description(folder: str) -> dict[str, Any]:
    """Return the `model.json` of a classifier."""
    description: dict[str, Any] = read_json(join(folder, DESCRIPTION))
    return description


def read_labelled(
    features: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    load_pixels: Callable[[list[str], list[str]], Tensor] | None = None,
) -> tuple[Images, Oracle]:
    """Return a labelled data set as features in the order of the ids, its pool behind an oracle.

    Holds all features in memory: a simulation is for data sets that fit.

    Args:
        features: Of the start.
        images: The images.
        task: With labels.
        load_pixels: Gives the pixels of ids and URIs, where a learner needs them.
    """
    parts = list(_labelled_parts(features, images, task))
    table = pa.concat_tables(table for table, _ in parts)
    vectors = torch.cat([vectors for _, vectors in parts])
    labels = tensor_of(table, "label")
    in_pool = torch.from_numpy(pc.equal(table["split"], "pool").to_numpy().copy())
    pixels, test_pixels = (
        load_pixels and load_pixels(rows["image_id"].to_pylist(), rows["uri"].to_pylist())
        for rows in (table.filter(pa.array(mask.numpy())) for mask in (in_pool, ~in_pool))
    )
    data = Images(
        features=vectors[in_pool],
        test_features=vectors[~in_pool],
        test_labels=labels[~in_pool],
        classes=task.classes,
        pixels=pixels,
        test_pixels=test_pixels,
    )
    return data, Oracle(labels[in_pool])


def _labelled_parts(
    features: EmbeddingsRef, images: ImagesRef, task: TaskRef
) -> Iterator[tuple[pa.Table, Tensor]]:
    """Yield (image_id, uri, split, class number) and the features of images that have a label."""
    truth = TrueLabels(task)
    for shard in shards(images, features):
        ids, vectors = shard.features()
        numbers = class_numbers(task.classes, value_of(truth.about(ids), ids, "label"))
        labelled = numbers >= 0
        table = shard.read_images(["image_id", "uri", "split"])
        columns = {name: value_of(table, ids, name) for name in table.column_names}
        rows = pa.table({**columns, "label": pa.array(numbers.numpy())})
        yield rows.filter(pa.array(labelled.numpy())), vectors[labelled]
