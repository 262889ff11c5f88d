"""Labels in JSON: exports of Label Studio (JSON, JSON-MIN), COCO, JSON Lines, and plain records.

Label Studio's formats differ in two ways: JSON-MIN leaves skipped tasks out, and it lists tasks
without an answer like the others, without a choice. Any project with one choice about an image is
read, whatever its fields are called.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.annotations import coco
from tasks.annotations.class_json import without_repeats
from tasks.annotations.columns import ALIASES, find_columns, is_image, make_answer, word
from tasks.annotations.fields import read_text, read_time
from tasks.annotations.schema import Answer, BadAnswers
from tasks.annotations.spelling import fold

CONTROL = "choice"  # name of the Choices in config.xml, and so of the answers in JSON-MIN
_IGNORED = ("textarea", "rating")  # controls for remarks that a person may have added
_REMEDY = "export a project that uses config.xml of the query, as JSON or JSON-MIN"


def from_json(text: str, chosen: str | None = None) -> Iterator[Answer]:
    """Yield the labels of a JSON file; the first task or record is row 1.

    Args:
        text: Of the file.
        chosen: `IMAGE,LABEL`, two fields of records, if the person said so.

    Raises:
        BadAnswers: it is not JSON, of no known format, or an answer is not a single choice.
    """
    content = _parse(text)
    if isinstance(content, dict):
        yield from _of_object(content)
        return
    tasks = [task for task in content if isinstance(task, dict)]
    image, label = _fields(chosen) if chosen else (None, _label_field(tasks))
    has_records = any(map(_is_record, tasks))
    for row, task in enumerate(content, start=1):
        if not isinstance(task, dict):
            raise _unknown(row, type(task).__name__)
        if isinstance(task.get("annotations"), list):
            yield from _answers_of_task(task, row)
        elif chosen is not None or _is_record(task):
            yield from _answers_of_record(task, row, image, label)
        elif not has_records or _image_of(task) == (None, None):  # else it has no label
            raise _unknown(row, ", ".join(list(task)[:8])[:200])


def _fields(chosen: str) -> tuple[str, str]:
    """Return the names of two fields, split by a comma."""
    image, _, label = (part.strip() for part in chosen.partition(","))
    return image, label


def _parse(text: str) -> Any:
    """Return the content of JSON, or the list of the lines of JSON Lines."""
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.split("\n") if line.strip()]
        try:
            if len(lines) > 1 and lines[0].lstrip().startswith("{"):
                return [json.loads(line, object_pairs_hook=without_repeats) for line in lines]
        except ValueError:
            pass
        msg = f"expected JSON ({error}); the file is cut off or damaged: export it again"
        raise BadAnswers(msg) from error


def _of_object(content: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the labels of COCO, of one record, or of names of images with their labels."""
    if coco.is_coco(content):
        yield from coco.labels_of(content)
    elif _is_record(content):
        yield from _answers_of_record(content, 1, None, None)
    elif content and all(is_image(key) and isinstance(v, str) for key, v in content.items()):
        for row, (uri, label) in enumerate(content.items(), start=1):
            yield make_answer({"uri": uri, "label": label}, row)
    else:
        msg = f"expected a list of tasks, got a single {type(content).__name__}; {_REMEDY}"
        raise BadAnswers(msg)


def _unknown(row: int, got: str) -> BadAnswers:
    msg = f"task {row}: expected a task of a Label Studio export or a record with image and label"
    return BadAnswers(f"{msg}, got {got}; {_REMEDY}")


def _answers_of_task(task: Mapping[str, Any], row: int) -> Iterator[Answer]:
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


def _is_record(record: Mapping[str, Any]) -> bool:
    """Return whether an object is a task of JSON-MIN, or names an image and a label."""
    is_task = bool({"annotator", "annotation_id"} & record.keys())
    return is_task or (_field(record, "label") is not None and _image_of(record) != (None, None))


def _label_field(tasks: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the field of labels in tasks of JSON-MIN, or the one that each record names itself.

    Raises:
        BadAnswers: tasks have answers, and which field has them is not certain.
    """
    answered = [task for task in tasks if task.get("annotation_id") is not None]
    keys = list(dict.fromkeys(str(key) for task in answered for key in task))
    if not answered:
        return None
    try:
        return keys[find_columns(["image", *keys], ())["label"] - 1]
    except BadAnswers as error:
        msg = (
            f"expected a field {CONTROL} in some task, got only {', '.join(keys[:12])[:200]}; say "
        )
        more = "--label-columns IMAGE,LABEL with the names of two fields"
        raise BadAnswers(f"{msg}{more}, or {_REMEDY}") from error


def _answers_of_record(
    record: Mapping[str, Any], row: int, image: str | None, label: str | None
) -> Iterator[Answer]:
    if label is None:
        label = _field(record, "label")
        _check_one_label(record, row)
    if image is not None:
        record = {**record, "image": record.get(image), "image_id": None}
    if label is not None and label in record:
        answer = _answer(record, record, record.get("annotator"), row)
        yield answer._replace(label=_single_choice(record[label], row))


def _check_one_label(record: Mapping[str, Any], row: int) -> None:
    """Refuse a record with different texts in fields that may have the label."""
    given = {key: v for key, v in record.items() if word(str(key)) in ALIASES["label"]}
    texts = {key: fold(value) for key, value in given.items() if isinstance(value, str)}
    if len(set(filter(None, texts.values()))) > 1:
        msg = f"record {row}: expected one label, got different ones in {' and '.join(texts)[:80]}"
        raise BadAnswers(f"{msg}; say --label-columns IMAGE,LABEL with the names of two fields")


def _field(record: Mapping[str, Any], name: str) -> str | None:
    """Return the key of a record that has one of the names of a column."""
    keys = {word(str(key)): key for key in record}
    return next((keys[alias] for alias in ALIASES[name] if alias in keys), None)


def _image_of(data: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the id and the path of an image; of a path that is the image itself only the id."""
    image_id = read_text(data.get("image_id"))
    field = _field({key: v for key, v in data.items() if key != "id"}, "uri")
    uri = read_text(data[field]) if field is not None else None
    if uri is None:  # a field of any name that holds one
        texts = [value for value in data.values() if isinstance(value, str) and is_image(value)]
        uri = texts[0] if len(texts) == 1 else None
    return image_id and image_id.strip(), None if uri is None or uri[:5] == "data:" else uri


def _answer(
    data: Mapping[str, Any], annotation: Mapping[str, Any], annotator: object, row: int
) -> Answer:
    image_id, uri = _image_of(data)
    time = annotation.get("updated_at") or annotation.get("created_at")
    return Answer(
        image_id=image_id,
        uri=uri,
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
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return read_text(value)
    count = f"{len(value)} choices" if isinstance(value, list) else type(value).__name__
    msg = f"task {row}: expected one choice, got {count}; keep one, since an image has one class"
    raise BadAnswers(msg)
