"""Requests over HTTP, in the forms of MLflow's server or as one image file, to rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from clipcore.rows import INPUTS, BadRequest, Row, check_columns, check_top_k

_JSON = "application/json"
_FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")


class NotSupported(BadRequest):
    """A request of a type that is not read."""


@dataclass(frozen=True)
class Asked:
    """What a request asks: the rows, and how many classes to name for each."""

    rows: Sequence[Row]
    top_k: int = 0


def read_request(
    body: bytes, content_type: str, top_k: str = "0", inputs: Sequence[str] = INPUTS
) -> Asked:
    """Return what a request asks.

    Args:
        body: JSON with one of MLflow's four keys and perhaps `params`, or an image file.
        content_type: Of the body.
        top_k: Of the address; JSON has it in `params`.
        inputs: Columns that the model knows.

    Raises:
        NotSupported: a content type of another kind.
        BadRequest: no request; says what was expected.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return Asked([{"image": body}], check_top_k(top_k))
    if kind != _JSON:
        msg = f"expected a body of type {_JSON}, or image/* or application/octet-stream"
        raise NotSupported(f"{msg} for one image file, got {kind[:80] or 'no type'}")
    return _from_json(body, inputs)


def _from_json(body: bytes, inputs: Sequence[str]) -> Asked:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    found = [form for form in _FORMS if isinstance(request, dict) and form in request]
    if len(found) != 1:
        raise BadRequest(f"expected a JSON object with one of the keys {', '.join(_FORMS)}")
    params = {} if request.get("params") is None else request["params"]
    if not isinstance(params, dict):
        raise BadRequest('expected `params` to be an object such as {"top_k": 3}')
    rows = _rows(request[found[0]], found[0], inputs)
    return Asked(rows, check_top_k(params.get("top_k", 0)))


def _rows(value: Any, form: str, inputs: Sequence[str]) -> list[Row]:
    if form == "dataframe_split":
        return _from_split(value, inputs)
    if isinstance(value, dict):
        return _from_columns(value, inputs)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise BadRequest(f'expected `{form}` to be a list of rows such as {{"image": BASE64}}')
    if value:
        check_columns(chain.from_iterable(value), inputs)
    return value


def _from_split(value: Any, inputs: Sequence[str]) -> list[Row]:
    parts = value if isinstance(value, dict) else {}
    columns, data = parts.get("columns"), parts.get("data")
    if (
        not isinstance(columns, list)
        or not isinstance(data, list)
        or not all(isinstance(row, list) and len(row) == len(columns) for row in data)
    ):
        msg = "expected `dataframe_split` to have `columns`, and `data` with rows as long as these"
        raise BadRequest(msg)
    check_columns([name for name in columns if isinstance(name, str)], inputs)
    return [dict(zip(columns, row, strict=True)) for row in data]


def _from_columns(value: Mapping[str, Any], inputs: Sequence[str]) -> list[Row]:
    lists = {
        name: value[name] if isinstance(value[name], list) else [value[name]]
        for name in check_columns(value, inputs)
    }
    if len({len(column) for column in lists.values()}) > 1:
        raise BadRequest("expected columns of equal length")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
