"""Whether what a run was told about class sentences can be used: known before it begins."""

from collections.abc import Sequence

from tasks.sentences.address import check_endpoint
from tasks.sentences.sentence_file import read_sentence_file
from tasks.specs import CoftSpec

TEMPLATES, FROM = "--templates", "--from"


def check_sentences(spec: CoftSpec, classes: Sequence[str]) -> None:
    """Refuse files of class sentences, and addresses of endpoints, that cannot be used.

    Raises:
        InputError: a file is none, or has nothing about any of the classes; or an address is none.
    """
    for option, file in ((TEMPLATES, spec.templates), (FROM, spec.sentences.file)):
        if file is not None:
            read_sentence_file(file, classes, spec.label.templates, option)
    if spec.sentences.endpoint is not None:
        check_endpoint(spec.sentences.endpoint)
