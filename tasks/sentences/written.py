"""What people and language models wrote about the classes of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.pool.classes import given_classes
from tasks.sentences.answers import ask
from tasks.sentences.candidates import Candidate, described
from tasks.sentences.checks import file_option
from tasks.sentences.record import Asked
from tasks.sentences.sentence_file import read_sentence_file
from tasks.specs import CoftSpec


@dataclass(frozen=True)
class Written:
    """Sets of class sentences that do not depend on the images.

    Attributes:
        candidates: The sets.
        asked: What an endpoint was asked; None without one.
    """

    candidates: tuple[Candidate, ...]
    asked: Asked | None = None


def gather(classes: Sequence[str], spec: CoftSpec) -> Written:
    """Return the sets that a run was given, and ask the endpoint that it names.

    Raises:
        InputError: a file cannot be used, or the endpoint refuses.
        GaveUp: the endpoint answers nothing at all.
    """
    wanted, templates = spec.sentences, spec.label.templates
    found: list[Candidate] = []
    if spec.pool.classes is not None:
        texts = given_classes(spec.pool.classes, spec.pool.class_column).descriptions
        found += [described(classes, texts, templates)] if texts else []
    if wanted.file is not None:
        found.append(read_sentence_file(wanted.file, classes, templates, file_option(spec)))
    if wanted.endpoint is None:
        return Written(tuple(found))
    answered, asked = ask(classes, wanted.endpoint, spec.runtime.workspace)
    return Written((*found, answered), asked)
