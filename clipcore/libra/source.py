"""The language model of a model that is served: where it is, and whether it is the one.

Sizes and tokenizer are known from small files, so nothing here waits for PyTorch; the weights are
compared when they are loaded (`bundle`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipcore.libra.captions import (
    TOKENIZER,
    Captions,
    UnwritableName,
    Vocabulary,
    load_vocabulary,
    write_captions,
)
from clipcore.libra.shape import CONFIG, UnsupportedLanguage, read_shape

LANGUAGE = "language"  # folder of the language model in that of a model which has its own
LLM = "COFT_LLM"  # environment variable: the folder of the language model of those that have none


@dataclass(frozen=True)
class Source:
    """Where a language model is.

    Attributes:
        folder: Of it.
        known: What the description of the model says of the one that is wanted.
        included: Whether it is part of the model.
    """

    folder: Path
    known: Mapping[str, Any]
    included: bool

    def refused(self, what: str) -> UnsupportedLanguage:
        """Return what is raised where another one is found."""
        name, sha256 = self.known["name"], self.known["sha256"]
        advice = "Copy the whole model again" if self.included else f"Name that one's in {LLM}"
        return UnsupportedLanguage(
            f"{self.folder}: expected the folder of the language model {name}, whose weights have "
            f"the hash {sha256[:12]}; {what}. {advice}."
        )


def language_from_environment() -> Path | None:
    """Return the folder that `LLM` names."""
    named = os.environ.get(LLM)
    return Path(named) if named else None


def find_source(folder: Path, known: Mapping[str, Any], given: Path | None) -> Source:
    """Return where a model's language model is.

    Args:
        folder: Of the model.
        known: What its description says of its language model.
        given: Folder of one; not looked at where the model has its own.

    Raises:
        UnsupportedLanguage: nobody says where.
    """
    if known["included"]:
        return Source(folder / LANGUAGE, known, included=True)
    if given is None:
        raise not_named(f"{known['name']}, whose weights have the hash {known['sha256'][:12]}")
    return Source(given, known, included=False)


def not_named(what: str) -> UnsupportedLanguage:
    """Return what is raised where a model does not hold its language model, and nobody names it."""
    return UnsupportedLanguage(
        f"This model speaks by the language model {what}, and does not hold it; {LLM} has to name "
        f"its folder ({CONFIG}, {TOKENIZER}, *.safetensors)."
    )


def read_sentences(
    source: Source, classes: Sequence[str], template: str
) -> tuple[Vocabulary, Captions]:
    """Return the tokenizer of a language model, and the sentences as it writes them.

    Raises:
        UnsupportedLanguage: it is not the one that is wanted, by its sizes or by its tokenizer.
    """
    shape, known = asdict(read_shape(source.folder)), source.known["shape"]
    if other := [name for name in shape if shape[name] != known.get(name)]:
        first = other[0]
        raise source.refused(f"found {first} {shape[first]}, not {known.get(first)}")
    vocabulary = load_vocabulary(source.folder)
    try:
        captions = write_captions(vocabulary, classes, template)
    except UnwritableName as error:
        raise source.refused(f"its tokenizer is another one: {error}") from error
    if sentence_tokens(vocabulary, captions) != source.known["tokens"]:
        raise source.refused("its tokenizer is another one: it writes the sentences differently")
    return vocabulary, captions


def sentence_tokens(vocabulary: Vocabulary, captions: Captions) -> dict[str, Any]:
    """Return the tokens of all sentences, in words of JSON."""
    return {
        "start": list(vocabulary.start),
        "prompt": list(captions.prompt),
        "endings": [list(ending) for ending in captions.endings],
    }
