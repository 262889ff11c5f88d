"""What a labelling gives to training: images with labels, and images that are held out."""

import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.pool.readers import value_of
from tasks.pool.shards import ID, read_beside
from tasks.refs import ImagesRef, LabelsRef, Reason, TaskRef
from tasks.specs import InputError
from tasks.storage.columns import class_numbers


def training_rows(
    labels: LabelsRef, images: ImagesRef, task: TaskRef
) -> tuple[list[str], list[str], Tensor]:
    """Return ids, URIs and class numbers of the labels that were kept, in the order of the ids.

    All of them are held: about two hundred bytes an image.

    Raises:
        InputError: no label was kept.
    """
    ids, uris, numbers = list[str](), list[str](), [torch.zeros(0, dtype=torch.long)]
    for part, about in read_beside(images, labels, [ID, "label", "kept"]):
        kept = part.filter(part["kept"])
        ids += kept[ID].to_pylist()
        uris += value_of(about, kept[ID], "uri").to_pylist()
        numbers.append(class_numbers(task.classes, kept["label"]))
    if not ids:
        raise InputError(
            f"No label of {labels.source} was kept, so there is nothing to learn from. Check that "
            "the class names fit the images, or try another backbone."
        )
    return ids, uris, torch.cat(numbers)


def held_out_rows(labels: LabelsRef, images: ImagesRef) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of the images that a labelling holds out for the guard, by id."""
    ids, uris = list[str](), list[str]()
    for part, about in read_beside(images, labels, [ID, "reason"]):
        held_out = part.filter(pc.equal(part["reason"], Reason.HELD_OUT))[ID]
        ids += held_out.to_pylist()
        uris += value_of(about, held_out, "uri").to_pylist()
    return ids, uris
