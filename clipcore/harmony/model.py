"""A state that answers rows of requests, with the towers of its image modalities; see `bundle`.

A row of a request has an `embedding` (a list of numbers), or an image as `clipcore.rows` reads it,
and perhaps a `modality`; where nobody says one, the one that its input looks like answers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipcore import rows
from clipcore.backbone import VisualTower
from clipcore.harmony.state import Prediction, State, UnknownModality, predict, predict_by
from clipcore.inference import Encoder

EMBEDDING, MODALITY = "embedding", "modality"
COLUMNS = ("label", "score", "probabilities", "modality", "modality_score", "error")


@dataclass(frozen=True)
class Item:
    """What is read of a row.

    Attributes:
        values: Pixels of an image, or an embedding.
        tower: Whose pixels they are; None for an embedding.
        modality: What the row says that it is.
    """

    values: np.ndarray
    tower: int | None
    modality: str | None

    @property
    def key(self) -> tuple[int | None, int, str | None]:
        """Items of one key can be stacked."""
        return self.tower, len(self.values), self.modality


@dataclass(frozen=True)
class Found:
    """What is said of a row."""

    probabilities: np.ndarray
    modality: str
    certainty: float


class HarmonyModel:
    """A state that answers rows of images and embeddings.

    Args:
        state: What was learned.
        towers: What makes features of images.
        tower_of: The place among them for each modality of images.
    """

    inputs: tuple[str, ...] = (*rows.INPUTS, EMBEDDING, MODALITY)

    def __init__(
        self, state: State, towers: Sequence[VisualTower], tower_of: Mapping[str, int]
    ) -> None:
        self.state = state
        self._towers = tuple(towers)
        self._tower_of = dict(tower_of)

    @cached_property
    def encoders(self) -> tuple[Encoder, ...]:
        """Return the towers for inference."""
        return tuple(Encoder(tower) for tower in self._towers)

    def read(self, row: rows.Row, allowed: rows.Allowed) -> Item | str:
        """Return what a row holds, or why that cannot be used."""
        try:
            name = self._modality(row.get(MODALITY))
            if (value := row.get(EMBEDDING)) is not None and not _is_nan(value):
                return Item(self._vector(value, name), None, name)
            tower = self._tower(name)
        except (rows.BadRow, UnknownModality) as error:
            return str(error)
        pixels = rows.read_row(row, self._towers[tower].preprocess, allowed)
        return pixels if isinstance(pixels, str) else Item(pixels, tower, name)

    def find(self, items: Sequence[Item]) -> Sequence[Found]:
        """Return what the state says of what `read` returned."""
        together: dict[tuple[int | None, int, str | None], list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            together[item.key].append(place)
        found: dict[int, Found] = {}
        for (tower, _, modality), places in together.items():
            values = torch.from_numpy(np.stack([items[place].values for place in places]))
            said = self._predict(values, tower, modality)
            each = zip(
                said.probabilities.numpy(), said.modalities, said.certainty.tolist(), strict=True
            )
            found |= {place: Found(*one) for place, one in zip(places, each, strict=True)}
        return [found[place] for place in range(len(items))]

    def say(self, found: Found | str, top_k: int) -> dict[str, object]:
        """Return the answer to a row, `COLUMNS`."""
        if isinstance(found, str):
            return dict.fromkeys(COLUMNS) | {"error": found}
        answer = rows.said(found.probabilities, self.state.classes, top_k)
        return answer | {"modality": found.modality, "modality_score": found.certainty}

    def _predict(self, values: Tensor, tower: int | None, modality: str | None) -> Prediction:
        if tower is None:
            return predict(self.state, values, modality)
        features = self.encoders[tower](values).cpu()
        names = [name for name, own in self._tower_of.items() if own == tower]
        return predict_among(self.state, features, [modality] if modality else names)

    def _modality(self, said: object) -> str | None:
        if said in (None, "", "None") or _is_nan(said):  # the third as in `rows`
            return None
        name = str(said)
        self.state.modality(name)
        return name

    def _vector(self, value: object, name: str | None) -> np.ndarray:
        msg = f"expected a list of finite numbers in column `{EMBEDDING}`"
        try:
            vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise rows.BadRow(msg) from error
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise rows.BadRow(msg)
        check_width(self.state, len(vector), name)
        return vector

    def _tower(self, name: str | None) -> int:
        """Return the place of the tower that sees an image.

        Raises:
            BadRow: none does, or nobody can say which.
        """
        if not self._tower_of:
            msg = "expected an `embedding`: no modality of this model was learned from images"
            raise rows.BadRow(msg)
        if name is not None and name not in self._tower_of:
            raise rows.BadRow(f"expected an `embedding`: {name} was not learned from images")
        own = {self._tower_of[name]} if name is not None else set(self._tower_of.values())
        if len(own) > 1:
            known = ", ".join(self._tower_of)
            msg = "expected a `modality`: images are seen by different towers here"
            raise rows.BadRow(f"{msg}; one of {known}")
        return own.pop()


def predict_among(
    state: State, inputs: Float[Tensor, "samples width"], names: Sequence[str]
) -> Prediction:
    """Return class probabilities of samples that are of one of some modalities."""
    if len(names) == 1:
        return predict(state, inputs, names[0])
    return predict_by(dict.fromkeys(names, state), inputs)


def check_width(state: State, width: int, name: str | None) -> None:
    """Refuse an embedding that no modality, or not the one that is named, could have.

    Raises:
        BadRow: has the widths that are known.
    """
    widths = {one: kept.stem.width for one, kept in state.modalities.items()}
    if width not in ([widths[name]] if name is not None else widths.values()):
        known = widths if name is None else {name: widths[name]}
        listed = ", ".join(f"{one} {number}" for one, number in known.items())
        raise rows.BadRow(f"expected an embedding of a known width ({listed}), got {width}")


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124  # what pandas has for null
