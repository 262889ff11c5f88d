"""A folder that is served: a state and the towers of its image modalities, safetensors and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from clipcore import checkpoint, tower_files
from clipcore.backbone import VisualTower
from clipcore.description import read_description, write_description
from clipcore.harmony.model import HarmonyModel
from clipcore.harmony.state import State, from_tensors, to_tensors
from clipcore.tower_files import TowerParts

KIND = "harmony"
STATE = "weights.safetensors"


def save_model(
    folder: Path,
    state: State,
    towers: Sequence[TowerParts],
    tower_of: Mapping[str, int],
    facts: Mapping[str, Any],
) -> None:
    """Write a state with its towers.

    Args:
        folder: Target folder; created if absent.
        state: What was learned.
        towers: Of images.
        tower_of: The place among them for each modality of images.
        facts: Its origin; any JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, header = to_tensors(state)
    (folder / STATE).write_bytes(checkpoint.to_bytes(tensors, header))
    described = [tower_files.save_tower(folder, place, parts) for place, parts in enumerate(towers)]
    modalities = [
        {"name": name, "width": kept.stem.width, "tower": tower_of.get(name)}
        for name, kept in state.modalities.items()
    ]
    members = [STATE, *(tower_files.file_of(place) for place in range(len(towers)))]
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
        raise tower_files.incomplete(folder, error) from error
    towers = [load_tower(folder, place).to(device) for place in range(len(description["towers"]))]
    numbers = {one["name"]: one["tower"] for one in description["modalities"]}
    return HarmonyModel(state, towers, {n: t for n, t in numbers.items() if t is not None})


def load_tower(folder: Path, place: int) -> VisualTower:
    """Return one of the towers of a folder of `save_model`.

    Raises:
        BrokenModel: as `load_model`.
    """
    described = read_description(folder, KIND)["towers"][place]
    return tower_files.load_tower(folder, place, described)
