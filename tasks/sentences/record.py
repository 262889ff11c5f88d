"""Class sentences as a file: which they are, and how they came to be chosen."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from tasks.specs import Spec
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_bytes

FILE = "sentences.json"  # of a stage
FORMAT: Literal["coft class sentences 1"] = "coft class sentences 1"


class Weighed(Spec):
    """One set of class sentences, as the pool judges it."""

    name: str
    mutual_information: float = Field(description="Of image and class, as a share of log C.")
    least_share: float = Field(description="Smallest ratio of a class's share to the plain one.")
    least_class: str = Field("", description="The class with that ratio.")
    num_classes: int = Field(description="Classes with sentences of their own; others have plain.")
    num_sentences: int
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Texts that were not used, by reason."
    )


class Exchange(Spec):
    """What a language model was asked about a class, and what it answered."""

    about: str
    answer: str
    dropped: dict[str, int] = Field(default_factory=dict)


class Asked(Spec):
    """An endpoint, the question to it, and its answers."""

    url: str
    model: str
    prompt: str
    exchanges: tuple[Exchange, ...]
    num_calls: int
    num_tokens: int
    failures: dict[str, int] = Field(
        default_factory=dict, description="Classes without an answer, by reason."
    )


class Record(Spec):
    """Class sentences, and the table that they were chosen by."""

    format: Literal["coft class sentences 1"] = FORMAT
    chosen: str
    why: str
    backbone: str
    candidates: tuple[Weighed, ...] = ()
    asked: Asked | None = None
    sentences: dict[str, tuple[str, ...]] = Field(description="Of each class, as they are read.")


def digest_of(sentences: Mapping[str, Sequence[str]], classes: Sequence[str]) -> str:
    """Return what tells the sentences of some classes from others."""
    return fingerprint("sentences", [list(sentences[name]) for name in classes])


def read_record(uri: str) -> Record:
    """Return a choice that coft has written."""
    return Record.model_validate_json(read_bytes(uri))
