"""A vision system as a workspace keeps it: made for a language model, and loaded again."""

from dataclasses import dataclass

from clipcore.libra.captions import load_vocabulary, write_captions
from clipcore.libra.language import Language, load
from clipcore.libra.model import Design, Libra
from clipcore.libra.shape import read_ends
from clipcore.libra.speaker import Wording
from clipcore.libra.words import Words
from clipcore.seeding import generator
from tasks.describe.language import LanguageRef
from tasks.describe.refs import VisionRef
from tasks.describe.specs import VisionSpec
from tasks.storage.checkpoints import read_tensors
from tasks.storage.files import local_copy

DEPTH = 4 / 5  # of the layers, from which on there are images


@dataclass(frozen=True)
class Told:
    """The sentence that is told of each class."""

    classes: tuple[str, ...]
    template: str


@dataclass(frozen=True)
class Vision:
    """A language model that sees, and what it needs to speak.

    Attributes:
        model: In evaluation mode.
        template: Of the sentence that it learns, or has learned.
        wording: How it writes, that sentence and others.
    """

    model: Libra
    template: str
    wording: Wording


def design_of(spec: VisionSpec, language: LanguageRef, *, dim: int) -> Design:
    """Return what is built for a language model, and features of `dim` numbers a position."""
    first = int(DEPTH * language.num_layers) if spec.first is None else spec.first
    return Design(
        dim=dim,
        positions=spec.side**2,
        first=min(first, language.num_layers - 1),
        rank=spec.rank or None,
        start=spec.start,
        bridge=spec.bridge,
    )


def new_vision(
    language: LanguageRef,
    design: Design,
    told: Told,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Vision:
    """Return a vision system that has learned nothing."""
    loaded, wording = _speaking(language, told)
    draws = generator(seed, "libra")
    words = Words(design.dim, generator=draws)
    model = Libra(loaded, design, words, generator=draws).to(device).eval()
    return Vision(model, told.template, wording)


def load_vision(vision: VisionRef, language: LanguageRef, *, device: str = "cpu") -> Vision:
    """Return a vision system that was learned."""
    tensors, header = read_tensors(vision.uri)
    told = Told(tuple(header["classes"]), header["template"])
    loaded, wording = _speaking(language, told)
    model = Libra.restored(loaded, Design(**header["design"]), tensors).to(device)
    return Vision(model, told.template, wording)


def _speaking(language: LanguageRef, told: Told) -> tuple[Language, Wording]:
    """Return a language model, and how it writes what is told."""
    with local_copy(language.uri) as folder:
        vocabulary = load_vocabulary(folder)
        captions = write_captions(vocabulary, told.classes, told.template)
        return load(folder), Wording(told.classes, vocabulary, captions, read_ends(folder))
