"""A folder that is served: a state and the towers of its image modalities, safetensors and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clipcore import checkpoint
from clipcore.backbone import VisualTower, build_visual
from clipcore.description import (
    BrokenModel,
    preprocess_of,
    preprocess_values,
    read_description,
    write_description,
)
from clipcore.harmony.model import HarmonyModel
from clipcore.harmony.state import State, from_tensors, to_tensors

KIND = "harmony"
STATE = "weights.safetensors"
TOWER = "tower-{}.safetensors"


def save_model(
    folder: Path,
    state: State,
    towers: Sequence[tuple[VisualTower, Mapping[str, Any], Mapping[str, Any]]],
    tower_of: Mapping[str, int],
    facts: Mapping[str, Any],
) -> None:
    """Write a state with its towers.

    Args:
        folder: Target folder; created if absent.
        state: What was learned.
        towers: Of images, each with open_clip's configuration of it and what it is called by.
        tower_of: The place among them for each modality of images.
        facts: Its origin; any JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, header = to_tensors(state)
    (folder / STATE).write_bytes(checkpoint.to_bytes(tensors, header))
    described = []
    for number, (tower, config, known) in enumerate(towers, 1):
        weights = {name: value.cpu().contiguous() for name, value in tower.state_dict().items()}
        save_file(weights, folder / TOWER.format(number))
        prepared = preprocess_values(tower.preprocess)
        described.append({"config": dict(config), "preprocess": prepared, "known": dict(known)})
    modalities = [
        {"name": name, "width": kept.stem.width, "tower": tower_of.get(name)}
        for name, kept in state.modalities.items()
    ]
    members = [STATE, *(TOWER.format(number) for number in range(1, len(towers) + 1))]
    write_description(
        folder,
        kind=KIND,
        classes=list(state.classes),
        modalities=modalities,
        towers=described,
        members=members,
        facts=dict(facts),
    )


def load_model(folder: Path, *, device: str | torch.device = "cpu") -> HarmonyModel:
    """Load a folder of `save_model`; the towers go to a device, the state stays on the CPU.

    Raises:
        BrokenModel: a file is missing or incomplete, or the folder holds another kind of model.
    """
    description = read_description(folder, KIND)
    try:
        state = from_tensors(*checkpoint.read(str(folder / STATE)))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise _broken(folder, error) from error
    towers = [load_tower(folder, place).to(device) for place in range(len(description["towers"]))]
    numbers = {one["name"]: one["tower"] for one in description["modalities"]}
    return HarmonyModel(state, towers, {n: t for n, t in numbers.items() if t is not None})


def load_tower(folder: Path, place: int) -> VisualTower:
    """Return one of the towers of a folder of `save_model`.

    Raises:
        BrokenModel: as `load_model`.
    """
    known = read_description(folder, KIND)["towers"][place]
    tower = build_visual(known["config"], preprocess_of(known["preprocess"]))
    try:
        tower.load_state_dict(load_file(folder / TOWER.format(place + 1)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _broken(folder, error) from error
    tower.network.to(memory_format=torch.channels_last)
    return tower.requires_grad_(requires_grad=False).eval()


def _broken(folder: Path, error: Exception) -> BrokenModel:
    return BrokenModel(
        f"{folder}: expected a state and its towers, complete; got {type(error).__name__}: "
        f"{error}. Copy the whole folder again."
    )
