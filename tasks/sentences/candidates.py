"""Sets of class sentences that may be used in place of the plain templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipcore.templates import in_templates
from tasks.refs import SentencesRef
from tasks.sentences.checking import add_up, checked
from tasks.sentences.record import read_record

SYNONYMS, DESCRIPTIONS, FILE, ENDPOINT = "synonyms", "descriptions", "file", "endpoint"
Sentences = Mapping[str, tuple[str, ...]]
"""Of each class, one sentence at least."""


@dataclass(frozen=True)
class Candidate:
    """A set of class sentences.

    Attributes:
        name: Where it comes from.
        own: Sentences of the classes that have some of their own.
        dropped: How many texts were not used, by reason.
    """

    name: str
    own: Sentences
    dropped: Mapping[str, int] = field(default_factory=dict)

    def complete(self, plain: Sentences) -> dict[str, tuple[str, ...]]:
        """Return the sentences of all classes; one without its own has the plain ones."""
        return {name: self.own.get(name, sentences) for name, sentences in plain.items()}


def plain(classes: Sequence[str], templates: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the sentences that the templates make of the class names."""
    return {name: tuple(in_templates(name, templates)) for name in classes}


def sentences_of(
    chosen: SentencesRef | None, classes: Sequence[str], templates: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the sentences of each class: those that were chosen, or those of the templates."""
    own = read_record(chosen.file).sentences if chosen and chosen.content else {}
    said = own or plain(classes, templates)
    return tuple(said[name] for name in classes)


def of_names(names: Mapping[str, Sequence[str]], templates: Sequence[str]) -> Sentences:
    """Return the sentences that the templates make of several names of each class."""
    return {
        own: tuple(sentence for other in others for sentence in in_templates(other, templates))
        for own, others in names.items()
    }


def described(
    classes: Sequence[str], descriptions: Sequence[str], templates: Sequence[str]
) -> Candidate:
    """Return sentences that name a class and describe it: "a photo of a tench, a food fish"."""
    found = {name: checked([text]) for name, text in zip(classes, descriptions, strict=True)}
    names = {name: [f"{name}, {kept[0].rstrip(' .')}"] for name, (kept, _) in found.items() if kept}
    dropped = add_up(own for _, own in found.values())
    return Candidate(DESCRIPTIONS, of_names(names, templates), dropped)
