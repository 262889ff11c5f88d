"""What a language model that sees says of images, in texts and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clipcore.libra.captions import Captions, Vocabulary
from clipcore.libra.decode import ClassQuestion, Ending, say
from clipcore.libra.model import Libra


@dataclass(frozen=True)
class Wording:
    """How the language model writes what is said of an image.

    Attributes:
        classes: The names.
        vocabulary: Its tokenizer.
        captions: The sentence that was learned of them.
        ends: Tokens at which the model ends a text, beside the mark of the sentence.
    """

    classes: tuple[str, ...]
    vocabulary: Vocabulary
    captions: Captions
    ends: tuple[int, ...] = ()


class Speaker:
    """A vision system with its wording.

    Args:
        libra: What was learned.
        wording: How it writes.
    """

    def __init__(self, libra: Libra, wording: Wording) -> None:
        self._libra = libra
        self._vocabulary = wording.vocabulary
        self._question = ClassQuestion(libra, wording.captions, wording.vocabulary.start)
        self._ending = Ending((*wording.captions.stops, *wording.ends))

    def probabilities(
        self, signals: Float[Tensor, "images positions dim"]
    ) -> Float[np.ndarray, "images classes"]:
        """Return how likely each class is, by the sentence that was learned."""
        probabilities: np.ndarray = self._question(signals).softmax(dim=1).cpu().numpy()
        return probabilities

    def sentences(
        self, signals: Float[Tensor, "images positions dim"], prompt: Sequence[int]
    ) -> tuple[list[str], list[float]]:
        """Return a sentence about each image, with its prompt, and its probability after it."""
        vocabulary = self._vocabulary
        said = say(self._libra, signals, prompt, self._ending, start=vocabulary.start)
        texts = [vocabulary.decode([*prompt, *tokens]).strip() for tokens in said.tokens]
        return texts, said.log_probabilities.exp().tolist()
