"""What a labelling gives to training: images with labels, and images that are held out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.pool.readers import value_of
from tasks.pool.shards import ID, read_beside
from tasks.refs import ImagesRef, LabelsRef, Reason, TaskRef
from tasks.specs import InputError
from tasks.storage.columns import class_numbers
from tasks.storage.manifest import iter_tables


@dataclass
class TrainingRows:
    """Images with labels, in the order of their ids, and how many labels are left out."""

    ids: list[str] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    numbers: list[Tensor] = field(default_factory=list)
    left_out: int = 0

    @property
    def labels(self) -> Tensor:
        """Return the class numbers."""
        return torch.cat(self.numbers)


def training_rows(
    labels: LabelsRef, images: ImagesRef, task: TaskRef, *, most: int | None = None
) -> TrainingRows:
    """Return the labels that were kept, in the order of the ids.

    All of them are held: about two hundred bytes an image. Of more than `most` labels of models
    each class gives the same share: its lowest ids, which are hashes, so a fair draw. People's
    answers are all taken.

    Raises:
        InputError: no label was kept.
    """
    places = places_of(labels, task, most)
    rows, taken = TrainingRows(), torch.zeros(len(task.classes), dtype=torch.long)
    for part, about in read_beside(images, labels, [ID, "label", "kept", "reason"]):
        kept = part.filter(part["kept"])
        numbers = class_numbers(task.classes, kept["label"])
        if places is not None:
            is_in = _within(kept, numbers, places, taken)
            rows.left_out += int((~is_in).sum())
            kept, numbers = kept.filter(pa.array(is_in.numpy())), numbers[is_in]
        rows.ids += kept[ID].to_pylist()
        rows.uris += value_of(about, kept[ID], "uri").to_pylist()
        rows.numbers.append(numbers)
    if not rows.ids:
        raise InputError(
            f"No label of {labels.source} was kept, so there is nothing to learn from. Check that "
            "the class names fit the images, or try another backbone."
        )
    return rows


def places_of(labels: LabelsRef, task: TaskRef, most: int | None) -> Tensor | None:
    """Return how many labels of each class may be learned from; None if all may."""
    if most is None or labels.num_kept <= most:
        return None
    counts = torch.zeros(len(task.classes), dtype=torch.long)
    for table in iter_tables(labels.uri, ["label", "kept", "reason"]):
        own = table.filter(pc.and_(table["kept"], pc.not_equal(table["reason"], Reason.ANSWERED)))
        numbers = class_numbers(task.classes, own["label"])
        counts += torch.bincount(numbers, minlength=len(counts))
    share = counts * most // max(1, int(counts.sum()))
    return torch.maximum(share, (counts > 0).long())


def _within(kept: pa.Table, numbers: Tensor, places: Tensor, taken: Tensor) -> Tensor:
    """Return which labels find a place in their class, and count those that do as taken."""
    answered = torch.from_numpy(pc.equal(kept["reason"], Reason.ANSWERED).to_numpy().copy())
    one_hot = torch.nn.functional.one_hot(numbers, len(places)) * ~answered[:, None]
    rank = (one_hot.cumsum(dim=0) * one_hot).sum(dim=1) + taken[numbers]
    taken += one_hot.sum(dim=0)
    return answered | (rank <= places[numbers])


def held_out_rows(
    labels: LabelsRef, images: ImagesRef, *, most: int | None = None
) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of the images that a labelling holds out for the guard, by id.

    Of more than `most` it returns the lowest ids: a fair draw, the same for every peer.
    """
    return _rows_where(pc.equal, labels, images, most)


def unlabeled_rows(
    labels: LabelsRef, images: ImagesRef, *, most: int | None = None
) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of all images that are not held out, whatever their label, by id.

    Of more than `most` it returns the lowest ids: a fair draw, the same for every peer.
    """
    return _rows_where(pc.not_equal, labels, images, most)


def class_shares(labels: LabelsRef, task: TaskRef) -> Tensor:
    """Return how frequent each class is among all labels, kept or not."""
    counts = torch.zeros(len(task.classes))
    for table in iter_tables(labels.uri, ["label"]):
        counts += torch.bincount(class_numbers(task.classes, table["label"]), minlength=len(counts))
    return counts / counts.sum().clamp(min=1)


def _rows_where(
    compare: Callable[..., Any], labels: LabelsRef, images: ImagesRef, most: int | None
) -> tuple[list[str], list[str]]:
    ids, uris = list[str](), list[str]()
    for part, about in read_beside(images, labels, [ID, "reason"]):
        found = part.filter(compare(part["reason"], Reason.HELD_OUT))[ID]
        ids += found.to_pylist()
        uris += value_of(about, found, "uri").to_pylist()
        if most is not None and len(ids) >= most:
            break
    return ids[:most], uris[:most]
