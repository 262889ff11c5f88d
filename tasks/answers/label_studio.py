"""A query for Label Studio, free edition: task files to import, and the labelling configuration.

Images are embedded in the task files, so that neither storage nor a file server has to be set up.
Answers come back as an export. Every task has its `image_id`, so an import may be repeated.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa

from tasks.annotations.exports import CONTROL
from tasks.answers.config import choice_of, labeling_config
from tasks.answers.pictures import rows_with_pictures
from tasks.pages.pictures import placeholder
from tasks.pool.classes import list_names
from tasks.specs import InputError, Spec
from tasks.storage.files import write_bytes
from tasks.storage.uris import join, redact

Media = Literal["auto", "inline", "uri"]

CONFIG = "config.xml"
MAX_TASKS = 5000  # an import of 100,000 fails (label-studio#7094)
MAX_BYTES = 50 * 2**20
_SIDE = 512  # pixels of the longer side
_REMOTE = ("http://", "https://", "s3://", "gs://")
_TABLE_ROW = re.compile(r"\.(?:parquet|pq)#\d+$", re.IGNORECASE)


class TaskFiles(Spec):
    """Files for Label Studio: `config.xml`, and task files in the order of import."""

    config: str
    files: tuple[str, ...]
    num_tasks: int
    num_unreadable: int


def write_tasks(
    folder: str,
    query: pa.Table,
    *,
    classes: Sequence[str],
    model: str,
    media: Media = "auto",
    max_pixels: int,
) -> TaskFiles:
    """Write `config.xml` and `tasks-0001.json`, ... of a query (schema `QUERY`) into a folder.

    Args:
        folder: A path or bucket URI.
        query: The images that are asked about.
        classes: All class names, in the order of the choices.
        model: Name of the model whose labels are shown as predictions (`model_version`).
        media: `inline` embeds each image in its task as a small JPEG; `uri` gives Label Studio
            http, s3 and gs addresses to fetch; `auto` is `uri` for such addresses, else `inline`.
        max_pixels: Larger images are not decoded.

    Raises:
        InputError: a class name that Label Studio does not allow, a label of the query that is no
            class, or an address that only `inline` can show.
    """
    config = labeling_config(classes)
    _check_labels(query, classes)
    inline = _inline_uris(query, media)
    unreadable: list[str] = []
    tasks = _encode_tasks(query, model, inline, max_pixels, unreadable)
    files = []
    for number, chunk in enumerate(_chunks(tasks), start=1):
        files.append(join(folder, f"tasks-{number:04d}.json"))
        write_bytes(files[-1], b"[\n" + b",\n".join(chunk) + b"\n]\n")
    target = join(folder, CONFIG)
    write_bytes(target, config.encode())
    return TaskFiles(
        config=target,
        files=tuple(files),
        num_tasks=query.num_rows,
        num_unreadable=len(unreadable),
    )


def _check_labels(query: pa.Table, classes: Sequence[str]) -> None:
    if unknown := sorted(set(query["label"].to_pylist()) - {*classes, None}):
        msg = f"the query: {list_names(unknown)} not among the {len(classes)} class names; "
        raise InputError(msg + "give the classes that the model was made with")


def _inline_uris(query: pa.Table, media: Media) -> set[str]:
    """Return the URIs of the images that are embedded in their task."""
    uris = set(query["uri"].to_pylist())
    if media == "inline":
        return uris
    local = {uri for uri in uris if not uri.startswith(_REMOTE) or _TABLE_ROW.search(uri)}
    if media == "uri" and local:
        msg = (
            f"{redact(min(local))}: Label Studio can fetch http, s3 and gs addresses of "
            "images only; use media inline"
        )
        raise InputError(msg)
    return local


def _encode_tasks(
    query: pa.Table, model: str, inline: set[str], max_pixels: int, unreadable: list[str]
) -> Iterator[bytes]:
    for row, picture in rows_with_pictures(query, side=_SIDE, max_pixels=max_pixels, inline=inline):
        image = picture if row["uri"] in inline else row["uri"]
        if image is None:
            unreadable.append(row["uri"])
            image = placeholder()
        yield json.dumps(_task(row, image, model), allow_nan=False).encode()


def _task(row: dict[str, Any], image: str, model: str) -> dict[str, Any]:
    score = _finite(row["confidence"])
    data = {
        "image": image,
        "image_id": row["image_id"],
        "round": row["round"],
        "predicted": row["label"],
        "confidence": score,
        "reason": row["reason"] or "",
    }
    if row["label"] is None:
        return {"data": data}
    choice = {"type": "choices", "value": {"choices": [choice_of(row["label"])]}}
    result = [{"from_name": CONTROL, "to_name": "image", **choice}]
    return {
        "data": data,
        "predictions": [{"model_version": model, "score": score, "result": result}],
    }


def _finite(value: float | None) -> float | None:
    return round(value, 4) if value is not None and math.isfinite(value) else None


def _chunks(tasks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Group tasks into files within the limits of an import; at least one."""
    chunk: list[bytes] = []
    size = 0
    for task in tasks:
        if chunk and (len(chunk) == MAX_TASKS or size + len(task) > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += len(task)
    yield chunk
