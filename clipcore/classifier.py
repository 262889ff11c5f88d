"""The classifier that is served: visual towers with linear heads, in safetensors and JSON."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from clipcore import adapters
from clipcore.backbone import build_visual
from clipcore.description import (
    DESCRIPTION,
    BrokenModel,
    preprocess_of,
    preprocess_values,
    read_description,
    write_description,
)
from clipcore.image_files import MAX_PIXELS
from clipcore.images import Preprocess, read_pixels
from clipcore.inference import Encoder
from clipcore.network import Network
from clipcore.rows import INPUTS, Allowed, Row, read_row, said


class Classifier:
    """Mean softmax of one or more networks over the same classes (CoFT: the two peers)."""

    inputs: tuple[str, ...] = INPUTS

    def __init__(
        self,
        members: Sequence[Network],
        *,
        classes: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:
        self.members = tuple(member.eval() for member in members)
        self.classes = tuple(classes)
        self.facts = dict(facts)
        self.preprocess = members[0].visual.preprocess

    @cached_property
    def encoders(self) -> tuple[Encoder, ...]:
        """Return the members' towers for inference; weights that change later are not seen."""
        return tuple(Encoder(member.visual) for member in self.members)

    def probabilities(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch classes"]:
        """Return class probabilities, averaged over the members, on the CPU."""
        return self.predict_members(pixels)[1].mean(dim=0).cpu()

    @torch.inference_mode()
    def predict_members(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "members batch classes"]]:
        """Return the first member's features and each member's class probabilities."""
        on_device = pixels.to(self.encoders[0].device, non_blocking=True)
        features = [encode(on_device) for encode in self.encoders]
        softmaxes = [
            member.logits(feature).softmax(dim=1)
            for member, feature in zip(self.members, features, strict=True)
        ]
        return features[0], torch.stack(softmaxes)

    def read(self, row: Row, allowed: Allowed) -> np.ndarray | str:
        """Return the pixels of a row of a request, or why there are none."""
        return read_row(row, self.preprocess, allowed)

    def find(self, pixels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Return the class probabilities of what `read` returned."""
        return list(self.probabilities(torch.from_numpy(np.stack(pixels))).numpy())

    def say(self, found: np.ndarray | str, top_k: int) -> dict[str, object]:
        """Return the answer to a row; see `rows.said`."""
        return said(found, self.classes, top_k)

    def predict_bytes(
        self, images: Sequence[bytes], *, max_pixels: int = MAX_PIXELS
    ) -> Float[np.ndarray, "images classes"]:
        """Return class probabilities of encoded images.

        Args:
            images: Contents of image files.
            max_pixels: Larger images are not decoded.

        Raises:
            BadImage: one of them cannot be decoded.
        """
        pixels = [read_pixels(data, self.preprocess, max_pixels=max_pixels) for data in images]
        return self.probabilities(torch.from_numpy(np.stack(pixels))).numpy()


def save_classifier(  # noqa: PLR0913  # what a classifier is made of
    folder: Path,
    members: Sequence[Mapping[str, Tensor]],
    *,
    classes: Sequence[str],
    config: Mapping[str, Any],
    preprocess: Preprocess,
    attached: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Any],
) -> None:
    """Write a classifier; `model.json` is written last, so that it marks a complete folder.

    Args:
        folder: Target folder; created if absent.
        members: State of each `Network`.
        classes: Names in the order of the heads' rows.
        config: open_clip's model configuration of the visual tower.
        preprocess: How pixels are prepared.
        attached: Arguments of `adapters.attach` for each adapter of the towers, innermost first.
        facts: Its origin (backbone, digests, evidence); any JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"member-{number}.safetensors" for number, _ in enumerate(members, start=1)]
    for name, state in zip(names, members, strict=True):
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        save_file(on_cpu, folder / name)
    write_description(
        folder,
        classes=list(classes),
        config=dict(config),
        preprocess=preprocess_values(preprocess),
        adapters=[dict(arguments) for arguments in attached],
        members=names,
        facts=dict(facts),
    )


def load_classifier(folder: Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Load a folder of `save_classifier`, without network and without pickle.

    Raises:
        BrokenModel: a file is missing or incomplete, or the format is another one.
    """
    description = read_description(folder)
    try:
        members = [_read_member(folder / name, description) for name in description["members"]]
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise BrokenModel(
            f"{folder}: expected the files that {DESCRIPTION} names, complete; "
            f"got {type(error).__name__}: {error}. Copy the whole folder again."
        ) from error
    return Classifier(
        [member.to(device) for member in members],
        classes=description["classes"],
        facts=description["facts"],
    )


def load_heads(folder: Path) -> list[dict[str, Tensor]]:
    """Return the weight and the bias of each member's linear head, and no tower.

    Raises:
        BrokenModel: as `load_classifier`.
    """
    description = read_description(folder)
    heads = []
    for name in description["members"]:
        try:
            with safe_open(folder / name, framework="pt") as file:
                heads.append({part: file.get_tensor(f"head.{part}") for part in ("weight", "bias")})
        except (OSError, SafetensorError) as error:
            raise BrokenModel(f"{folder / name}: {error}. Copy the whole folder again.") from error
    return heads


def _read_member(path: Path, description: Mapping[str, Any]) -> Network:
    preprocess = preprocess_of(description["preprocess"])
    visual = build_visual(description["config"], preprocess)
    for arguments in description["adapters"]:
        adapters.attach(visual, generator=torch.Generator(), **arguments)
    network = Network(visual, num_classes=len(description["classes"]), dim=visual.dim)
    network.load_state_dict(load_file(path))
    network.visual.network.to(memory_format=torch.channels_last)
    return network.requires_grad_(requires_grad=False)
