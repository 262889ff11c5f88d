"""Forms of a request: those of MLflow's server, an image file, and what is refused, and why."""

import json
from typing import Any

import pytest

from clipcore.rows import BadRequest
from tasks.serving.requests import NotSupported, read_request

ROWS = [{"image": "eA=="}, {"image": None}]


def asked(request: Any) -> Any:
    return read_request(json.dumps(request).encode(), "application/json; charset=utf-8")


@pytest.mark.parametrize(
    "request_",
    [
        {"dataframe_records": ROWS},
        {"inputs": ROWS},
        {"instances": ROWS},
        {"inputs": {"image": ["eA==", None]}},
        {"dataframe_split": {"columns": ["image"], "index": [0, 1], "data": [["eA=="], [None]]}},
    ],
)
def test_each_form_of_mlflow_gives_the_same_rows(request_: dict[str, Any]) -> None:
    found = asked({**request_, "params": {"top_k": 2}})
    assert list(found.rows) == ROWS
    assert found.top_k == 2
    assert asked(request_).top_k == 0


def test_any_column_that_the_model_knows_makes_a_row() -> None:
    for form in ("dataframe_records", "inputs"):
        assert list(asked({form: [{"path": "a"}]}).rows) == [{"path": "a"}]


def test_one_value_is_one_row() -> None:
    assert list(asked({"inputs": {"image": "eA==", "path": None}}).rows) == [
        {"image": "eA==", "path": None}
    ]


def test_an_image_file_is_one_row() -> None:
    for kind in ("image/jpeg", "IMAGE/png", "application/octet-stream"):
        found = read_request(b"bytes", kind, "3")
        assert (list(found.rows), found.top_k) == ([{"image": b"bytes"}], 3)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], "one of the keys"),
        ({}, "one of the keys"),
        ({"inputs": ROWS, "instances": ROWS}, "one of the keys"),
        ({"inputs": "x"}, "a list of rows"),
        ({"inputs": ["x"]}, "a list of rows"),
        ({"inputs": [{"picture": "x"}]}, "a column `image`, `path` or `url`"),
        ({"inputs": {"picture": ["x"]}}, "a column `image`, `path` or `url`"),
        ({"inputs": {"image": ["x"], "path": []}}, "equal length"),
        ({"dataframe_split": {"columns": ["image"]}}, "`columns`, and `data`"),
        ({"dataframe_split": {"columns": ["image"], "data": [["a", "b"]]}}, "`columns`, and"),
        ({"dataframe_split": {"columns": [["image"]], "data": []}}, "a column `image`"),
        ({"dataframe_split": []}, "`columns`, and `data`"),
        ({"inputs": ROWS, "params": []}, "`params`"),
        ({"inputs": ROWS, "params": {"top_k": "many"}}, "top_k"),
    ],
)
def test_what_is_no_request_is_refused_with_what_was_expected(request_: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        asked(request_)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_bodies_that_are_not_json(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the body is not JSON"):
        read_request(body, "application/json")


def test_other_types_are_not_read() -> None:
    for kind in ("text/csv", "", "multipart/form-data"):
        with pytest.raises(NotSupported, match="expected a body of type application/json"):
            read_request(b"image\nx", kind)
