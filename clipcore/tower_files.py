"""The image towers of a model that is served: safetensors, and in JSON what builds them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clipcore import adapters
from clipcore.backbone import VisualTower, build_visual
from clipcore.description import BrokenModel, preprocess_of, preprocess_values

TowerParts = tuple[VisualTower, Mapping[str, Any], Mapping[str, Any]]
"""A tower, open_clip's configuration of it, and what it is called by."""


def file_of(place: int) -> str:
    """Return the name of the file of one of a model's towers."""
    return f"tower-{place + 1}.safetensors"


def save_tower(
    folder: Path, place: int, parts: TowerParts, attached: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Write one of a model's towers, and return its part of the description.

    Args:
        folder: Of the model.
        place: Which one of its towers.
        parts: The tower.
        attached: Arguments of `adapters.attach` for each adapter on it, innermost first.
    """
    tower, config, known = parts
    weights = {name: value.cpu().contiguous() for name, value in tower.state_dict().items()}
    save_file(weights, folder / file_of(place))
    prepared = preprocess_values(tower.preprocess)
    own = {"config": dict(config), "preprocess": prepared, "known": dict(known)}
    return {**own, "adapters": [dict(arguments) for arguments in attached]}


def load_tower(folder: Path, place: int, described: Mapping[str, Any]) -> VisualTower:
    """Return a tower that `save_tower` wrote, frozen and in evaluation mode.

    Raises:
        BrokenModel: its file is missing or incomplete.
    """
    tower = build_visual(described["config"], preprocess_of(described["preprocess"]))
    for arguments in described.get("adapters", ()):
        adapters.attach(tower, generator=torch.Generator(), **arguments)
    try:
        tower.load_state_dict(load_file(folder / file_of(place)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise incomplete(folder, error) from error
    tower.network.to(memory_format=torch.channels_last)
    return tower.requires_grad_(requires_grad=False).eval()


def incomplete(folder: Path, error: Exception) -> BrokenModel:
    """Return what is raised of a folder in which weights are missing or broken."""
    return BrokenModel(
        f"{folder}: expected the weights of a model, complete; got {type(error).__name__}: "
        f"{error}. Copy the whole folder again."
    )
