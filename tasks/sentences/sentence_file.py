"""A person's file of class sentences: `{"cat": ["a sleeping cat.", "tabby"], ...}` in JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from clipcore.templates import in_templates
from tasks.annotations.spelling import Names
from tasks.annotations.text import NotText, decode
from tasks.sentences import candidates
from tasks.sentences.candidates import Candidate
from tasks.sentences.checking import add_up, checked, is_sentence
from tasks.sentences.record import FORMAT, Record
from tasks.specs import InputError
from tasks.storage.files import open_read
from tasks.storage.uris import redact

_MAX_FILE = 64 * 2**20  # bytes
_SHAPE = '{"cat": ["a photo of a sleeping cat.", "tabby"], ...}'


class BadSentences(InputError):
    """A file of class sentences cannot be read, or is about other classes."""


def read_sentence_file(
    uri: str, classes: Sequence[str], templates: Sequence[str], option: str
) -> Candidate:
    """Return the sentences of a file: what ends with a mark as it is, a name in the templates.

    Args:
        uri: Where it is: a file as above, or one that coft wrote.
        classes: Those of the run, found in any spelling; what the file says of others is left out.
        templates: The plain templates.
        option: What the person said, for messages.

    Raises:
        BadSentences: it is no such file, or has nothing about any of the classes.
    """
    place = f"{option} {redact(uri)}"
    content = _content(uri, place)
    if content.get("format") == FORMAT:
        return Candidate(candidates.FILE, _of_record(content, classes, place))
    names = Names(classes)
    found = {own: checked(value) for key, value in content.items() if (own := names.find(key))}
    texts = {
        name: tuple(sentence for text in kept for sentence in _sentences(text, templates))
        for name, (kept, _) in found.items()
        if kept
    }
    _check_about(texts, content, place)
    return Candidate(candidates.FILE, texts, add_up(dropped for _, dropped in found.values()))


def read_record_of(uri: str, option: str) -> Record | None:
    """Return how sentences were chosen that coft has written; None for a person's own file.

    Raises:
        BadSentences: it is no file of class sentences.
    """
    place = f"{option} {redact(uri)}"
    content = _content(uri, place)
    return _record(content, place) if content.get("format") == FORMAT else None


def _sentences(text: str, templates: Sequence[str]) -> list[str]:
    return [text] if is_sentence(text) else in_templates(text, templates)


def _of_record(
    content: Mapping[str, Any], classes: Sequence[str], place: str
) -> dict[str, tuple[str, ...]]:
    names = Names(classes)
    said = _record(content, place).sentences
    found = {own: texts for key, texts in said.items() if (own := names.find(key))}
    _check_about(found, said, place)
    return found


def _record(content: Mapping[str, Any], place: str) -> Record:
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        msg = f"{place}: expected a file as coft templates writes it, got another {where}; "
        raise BadSentences(msg + "run coft templates again") from error
    kept = {
        name: own
        for name, texts in record.sentences.items()
        if (own := tuple(filter(str.strip, texts)))
    }
    return record.model_copy(update={"sentences": kept})


def _check_about(own: Mapping[str, object], said: Mapping[str, object], place: str) -> None:
    if not own:
        keys = ", ".join(repr(key[:40]) for key in list(said)[:3]) or "nothing"
        msg = f"{place}: expected sentences about the classes of this run, got {keys}"
        raise BadSentences(f"{msg}; compare the names, write {_SHAPE}")


def _content(uri: str, place: str) -> dict[str, Any]:
    try:
        with open_read(uri) as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            msg = f"{place}: expected at most {_MAX_FILE:,} bytes; is it the right file?"
            raise BadSentences(msg)
        content = json.loads(decode(data))
    except FileNotFoundError as error:
        raise BadSentences(f"{place}: no such file; check the path") from error
    except (OSError, NotText, ValueError, RecursionError) as error:
        if isinstance(error, BadSentences):
            raise
        reason = " ".join(str(error).split())[:120]
        raise BadSentences(f"{place}: expected JSON like {_SHAPE}, got {reason}") from error
    if not isinstance(content, dict):
        msg = f"{place}: expected JSON like {_SHAPE}, got a {type(content).__name__}"
        raise BadSentences(msg)
    return content
