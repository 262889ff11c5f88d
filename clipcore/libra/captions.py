"""Sentences that name a class, as the tokens of a language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from clipcore.libra.shape import UnsupportedLanguage

TOKENIZER = "tokenizer.json"
TEMPLATE = "A photo of the {}."


class UnwritableName(ValueError):
    """A class name, or a prompt, that the language model's tokenizer cannot write."""


class Vocabulary:
    """A language model's tokenizer.

    Attributes:
        start: What stands before every text; empty for many models.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.start: tuple[int, ...] = tuple(tokenizer.encode("").ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without `start`.

        Raises:
            UnwritableName: they do not say the same.
        """
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError as error:  # half of a surrogate pair, which JSON can hold
            raise UnwritableName(f"{text!r} is no text that can be written in UTF-8.") from error
        if (said := self.decode(ids)).strip() != text.strip():
            raise UnwritableName(
                f"The language model's tokenizer cannot write {text!r}: it would say {said!r}."
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())


@dataclass(frozen=True)
class Captions:
    """A prompt, and how it ends for each class.

    Attributes:
        prompt: What stands before the name; never trained on.
        endings: Of each class, its name and the stop.
    """

    prompt: tuple[int, ...]
    endings: tuple[tuple[int, ...], ...]

    @property
    def stops(self) -> tuple[int, ...]:
        """Return the tokens at which sentences end: a mark may grow together with a name."""
        return tuple(sorted({ending[-1] for ending in self.endings}))


def load_vocabulary(folder: Path) -> Vocabulary:
    """Return the tokenizer in a language model's folder.

    Raises:
        UnsupportedLanguage: there is none, or it cannot be read.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise UnsupportedLanguage(
            f"{folder}: expected {TOKENIZER} beside the weights. transformers writes it: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    try:
        return Vocabulary(Tokenizer.from_file(str(path)))
    except Exception as error:  # tokenizers raises nothing more particular
        raise UnsupportedLanguage(f"{path} cannot be read: {error}") from error


def write_captions(
    vocabulary: Vocabulary, classes: Sequence[str], template: str = TEMPLATE
) -> Captions:
    """Return the tokens of a sentence about each class.

    A sentence is written as a whole and cut after the words before the name, so that a name has the
    tokens that it has inside of a text.

    Args:
        vocabulary: The language model's.
        classes: The names.
        template: A sentence with one `{}`, and a mark at its end.

    Raises:
        UnwritableName: a name cannot be written, is written as another one is, or grows together
            with what stands before it.
    """
    check_template(template)
    before = template.partition("{}")[0]
    prompt = tuple(vocabulary.encode(before.rstrip()))
    endings = []
    for name in classes:
        whole = tuple(vocabulary.encode(template.replace("{}", name)))
        if whole[: len(prompt)] != prompt:
            raise UnwritableName(
                f"The tokens of {template.replace('{}', name)!r} do not begin with those of "
                f"{before.rstrip()!r}; choose other words before the name."
            )
        endings.append(whole[len(prompt) :])
    _check_distinct(endings, classes)
    return Captions(prompt, tuple(endings))


def check_template(template: str) -> None:
    """Refuse a template that is no sentence about a name.

    Raises:
        UnwritableName: it lacks words before the name, the name, or a mark after it.
    """
    before, mark, after = template.partition("{}")
    if not mark or not before.strip() or not after.strip() or "{}" in after:
        raise UnwritableName(
            f"{template!r}: expected words, one {{}} for the name, and a mark at the end, such as "
            f"{TEMPLATE!r}."
        )


def _check_distinct(endings: Sequence[tuple[int, ...]], classes: Sequence[str]) -> None:
    """Refuse names of which one's tokens are another one's, whole or as a beginning."""
    seen = dict(zip(endings, classes, strict=True))
    for ending, name in zip(endings, classes, strict=True):
        for length in range(1, len(ending) + 1):
            other = seen.get(ending[:length])
            if other is not None and other != name:
                raise UnwritableName(
                    f"The language model writes {other!r} as it begins {name!r}; rename one."
                )
