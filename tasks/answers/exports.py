"""Answers in the exports of Label Studio, JSON and JSON-MIN, of projects with our `config.xml`.

The formats differ in two ways: JSON-MIN leaves skipped tasks out, and it lists tasks without an
answer like the others, without a choice.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.answers.fields import read_text, read_time
from tasks.answers.schema import Answer, BadAnswers

CONTROL = "choice"  # name of the Choices in config.xml, and so of the answers in JSON-MIN
_IGNORED = ("textarea", "rating")  # controls for remarks that a person may have added
_REMEDY = "export a project that uses config.xml of the query, as JSON or JSON-MIN"


def from_label_studio(text: str) -> Iterator[Answer]:
    """Yield the answers of an export; the first task is row 1.

    Raises:
        BadAnswers: it is not JSON, not an export, or an answer is not a single choice.
    """
    tasks = _parse_tasks(text)
    _check_json_min([task for task in tasks if isinstance(task, dict) and "annotation_id" in task])
    for row, task in enumerate(tasks, start=1):
        if isinstance(task, dict) and isinstance(task.get("annotations"), list):
            yield from _answers_of_json(task, row)
        elif isinstance(task, dict) and {"annotator", "annotation_id", CONTROL} & task.keys():
            yield from _answers_of_json_min(task, row)
        else:
            keys = ", ".join(list(task)[:8]) if isinstance(task, dict) else type(task).__name__
            msg = f"task {row}: expected a task of a Label Studio export, got {keys[:200]}"
            raise BadAnswers(f"{msg}; {_REMEDY}")


def _parse_tasks(text: str) -> list[Any]:
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"expected JSON ({error}); the file is cut off or damaged: export it again"
        raise BadAnswers(msg) from error
    if not isinstance(tasks, list):
        msg = f"expected a list of tasks, got a single {type(tasks).__name__}; {_REMEDY}"
        raise BadAnswers(msg)
    return tasks


def _answers_of_json(task: Mapping[str, Any], row: int) -> Iterator[Answer]:
    data = task.get("data")
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(data, dict):
            msg = f"task {row}: expected a task with data and annotations, got something else"
            raise BadAnswers(f"{msg}; {_REMEDY}")
        answer = _answer(data, annotation, annotation.get("completed_by"), row)
        if annotation.get("was_cancelled"):
            yield answer._replace(kind="skip")
        else:
            yield answer._replace(label=_choice_of(annotation.get("result") or [], row))


def _check_json_min(tasks: list[dict[str, Any]]) -> None:
    """Refuse JSON-MIN of another configuration: some answer must have a choice, but not each."""
    answered = [task for task in tasks if task["annotation_id"] is not None]
    if answered and not any(CONTROL in task for task in answered):
        keys = ", ".join(list(answered[0])[:12])[:200]
        msg = f"expected a field {CONTROL} in some task, got only {keys}; {_REMEDY}"
        raise BadAnswers(msg)


def _answers_of_json_min(task: Mapping[str, Any], row: int) -> Iterator[Answer]:
    if CONTROL in task:
        answer = _answer(task, task, task.get("annotator"), row)
        yield answer._replace(label=_single_choice(task[CONTROL], row))


def _answer(
    data: Mapping[str, Any], annotation: Mapping[str, Any], annotator: object, row: int
) -> Answer:
    image_id, uri = read_text(data.get("image_id")), read_text(data.get("image"))
    is_inline = uri is not None and uri.startswith("data:")
    time = annotation.get("updated_at") or annotation.get("created_at")
    return Answer(
        image_id=image_id and image_id.strip(),
        uri=None if image_id or is_inline else uri,
        kind=None,
        label=None,
        annotator=_annotator(annotator),
        answered_at=read_time(time, f"task {row}, field updated_at"),
        row=row,
    )


def _annotator(value: object) -> str:
    """Return the id of an annotator, which exports give as a number, a text or an object."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("id", "email", "username") if value.get(key)), None)
    return (read_text(value) or "").strip()


def _choice_of(results: object, row: int) -> str | None:
    """Return the choice of one annotation; None if it is empty."""
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        msg = f"task {row}: expected a list of results, got something else; {_REMEDY}"
        raise BadAnswers(msg)
    choices = [item for item in results if item.get("type") not in _IGNORED]
    if others := [str(item.get("type")) for item in choices if item.get("type") != "choices"]:
        msg = f"task {row}: expected one choice about the image, got {others[0][:40]}; {_REMEDY}"
        raise BadAnswers(msg)
    if not choices:
        return None
    values = [item.get("value") for item in choices]
    return _single_choice(values[0] if len(values) == 1 else values, row)


def _single_choice(value: object, row: int) -> str | None:
    """Return a choice that is given as a text or as an object with a list of one."""
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if value is None or isinstance(value, str):
        return read_text(value)
    count = f"{len(value)} choices" if isinstance(value, list) else type(value).__name__
    msg = f"task {row}: expected one choice, got {count}; keep one, since an image has one class"
    raise BadAnswers(msg)
