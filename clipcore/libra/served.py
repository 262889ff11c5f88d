"""Libra that answers rows of requests, with the tower that it sees by; see `bundle`.

A row of a request has an image as `clipcore.rows` reads it, and perhaps a `prompt`, such as "This
picture shows a": the beginning of the sentence that is said of the image. Without one the sentence
is the one that was learned.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from clipcore import rows
from clipcore.backbone import VisualTower
from clipcore.inference import BATCH_ON_CPU, Encoder
from clipcore.libra.captions import UnwritableName
from clipcore.libra.model import Libra
from clipcore.libra.speaker import Speaker, Wording

PROMPT = "prompt"
COLUMNS = ("label", "score", "probabilities", "caption", "caption_score", "error")
MOST_TOKENS = 64  # of a prompt
MOST_CHARACTERS = 16 * MOST_TOKENS  # that are looked at
_NOTHING = (None, "", "None")  # the third as in `rows`


@dataclass(frozen=True)
class Item:
    """What is read of a row: the pixels of its image, and the tokens of the prompt."""

    pixels: np.ndarray
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What is said of a row.

    Attributes:
        probabilities: Of the classes.
        caption: A sentence with its prompt.
        caption_score: The probability of the sentence after its prompt, word by word.
    """

    probabilities: np.ndarray
    caption: str
    caption_score: float


class LibraModel:
    """A language model that sees, answering rows of images.

    Args:
        libra: What was learned.
        tower: By which it sees.
        wording: How it writes.
    """

    inputs: tuple[str, ...] = (*rows.INPUTS, PROMPT)

    def __init__(self, libra: Libra, tower: VisualTower, wording: Wording) -> None:
        self.libra = libra
        self.wording = wording
        self._tower = tower
        self._speaker = Speaker(libra, wording)

    @cached_property
    def encoders(self) -> tuple[Encoder, ...]:
        """Return the tower for inference, whose features are maps."""
        return (Encoder(self._tower, side=isqrt(self.libra.design.positions)),)

    def read(self, row: rows.Row, allowed: rows.Allowed) -> Item | str:
        """Return what a row holds, or why that cannot be used."""
        try:
            prompt = self._prompt(row.get(PROMPT))
        except rows.BadRow as error:
            return str(error)
        pixels = rows.read_row(row, self._tower.preprocess, allowed)
        return pixels if isinstance(pixels, str) else Item(pixels, prompt)

    def find(self, items: Sequence[Item]) -> Sequence[Found]:
        """Return what is said of what `read` returned; rows of one prompt are read together."""
        together: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            together[item.prompt].append(place)
        found: dict[int, Found] = {}
        for prompt, places in together.items():
            for start in range(0, len(places), BATCH_ON_CPU):
                some = places[start : start + BATCH_ON_CPU]
                pixels = torch.from_numpy(np.stack([items[place].pixels for place in some]))
                found |= dict(zip(some, self._find(pixels, prompt), strict=True))
        return [found[place] for place in range(len(items))]

    def say(self, found: Found | str, top_k: int) -> dict[str, object]:
        """Return the answer to a row, `COLUMNS`."""
        if isinstance(found, str):
            return dict.fromkeys(COLUMNS) | {"error": found}
        answer = rows.said(found.probabilities, self.wording.classes, top_k)
        return answer | {"caption": found.caption, "caption_score": found.caption_score}

    def _find(self, pixels: Tensor, prompt: tuple[int, ...]) -> list[Found]:
        """Return what is said of images under one prompt."""
        design = self.libra.design
        signals = self.encoders[0](pixels).float().unflatten(1, (design.positions, design.dim))
        probabilities = self._speaker.probabilities(signals)
        captions, scores = self._speaker.sentences(signals, prompt)
        return [Found(*one) for one in zip(probabilities, captions, scores, strict=True)]

    def _prompt(self, said: object) -> tuple[int, ...]:
        """Return the tokens of a prompt; those that were learned where a row names none.

        Raises:
            BadRow: it is no text, too long a one, or one that the language model cannot write.
        """
        if said in _NOTHING or (isinstance(said, float) and np.isnan(said)):
            return self.wording.captions.prompt
        if not isinstance(said, str) or not (text := said.strip()):
            raise rows.BadRow(f"expected the beginning of a sentence in column `{PROMPT}`")
        msg = f"expected at most {MOST_TOKENS} tokens in column `{PROMPT}`"
        if len(text) > MOST_CHARACTERS:
            raise rows.BadRow(f"{msg}, got {len(text)} characters")
        try:
            prompt = tuple(self.wording.vocabulary.encode(text))
        except UnwritableName as error:
            raise rows.BadRow(f"column `{PROMPT}`: {error}") from error
        if len(prompt) > MOST_TOKENS:
            raise rows.BadRow(f"{msg}, got {len(prompt)}")
        return prompt
