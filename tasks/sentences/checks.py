"""Whether what a run was told about class sentences can be used: known before it begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.on_demand import OnDemand
from tasks.sentences.sentence_file import read_sentence_file
from tasks.specs import CoftSpec

if TYPE_CHECKING:
    from tasks.sentences import answers
else:  # only who names an endpoint waits for a library of HTTP
    answers = OnDemand("tasks.sentences.answers")

TEMPLATES = "--templates"


def check_sentences(spec: CoftSpec, classes: Sequence[str]) -> None:
    """Refuse files of class sentences and endpoints that cannot be used.

    Raises:
        InputError: a file is none, or has nothing about any of the classes; or nobody answers.
    """
    for option, file in ((TEMPLATES, spec.templates), (file_option(spec), spec.sentences.file)):
        if file is not None:
            read_sentence_file(file, classes, spec.label.templates, option)
    if spec.sentences.endpoint is not None:
        answers.check_asking(classes, spec.sentences.endpoint, spec.runtime.workspace)


def file_option(spec: CoftSpec) -> str:
    """Return what a person calls the file of sentences that have to beat the plain templates."""
    return "--sentences.file" if spec.method == "coft-plus" else "--from"
