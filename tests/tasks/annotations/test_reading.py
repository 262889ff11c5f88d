"""Answers are read from what people and Label Studio write, or refused with a remedy."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.annotations.reading import parse_answers, read_answers
from tasks.annotations.schema import ANSWERS, BadAnswers
from tasks.specs import InputError

CLASSES = ("cat", "dog")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANNOTATION = {"updated_at": "2026-11-22T12:00:00.000000Z", "completed_by": 3}


def read(path: Path, content: object, classes: tuple[str, ...] = CLASSES) -> list[dict[str, Any]]:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8", newline="")
    table = read_answers(str(path), classes)
    assert table.schema == ANSWERS
    return table.to_pylist()


def brief(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["image_id"], row["kind"], row["label"]) for row in rows]


def choices(*names: str, **more: Any) -> dict[str, Any]:
    result = [{"type": "choices", "from_name": "choice", "value": {"choices": list(names)}}]
    return {**ANNOTATION, "result": result, **more}


def task(*annotations: Any, image_id: str = "i") -> dict[str, Any]:
    return {"id": 1, "data": {"image_id": image_id, "image": "data:x"}, "annotations": annotations}


# --- CSV and Parquet --------------------------------------------------------------------------


def test_csv_with_all_columns(tmp_path: Path) -> None:
    text = (
        "image_id,label,annotator,answered_at\r\n"
        '"i1","cat","ann",2026-11-22T14:00:00+02:00\r\n'
        "i2,,ann,\r\n"
        "\r\n"
        " i3 ,skip,,2026-11-22 12:00\r\n"
        "i4,None of these classes,ann\r\n"
    )
    assert read(tmp_path / "a.txt", text) == [
        {"image_id": "i1", "uri": None, "kind": "label", "label": "cat", "annotator": "ann",
         "answered_at": NOON, "row": 2},
        {"image_id": "i3", "uri": None, "kind": "skip", "label": None, "annotator": "",
         "answered_at": NOON, "row": 5},
        {"image_id": "i4", "uri": None, "kind": "none", "label": None, "annotator": "ann",
         "answered_at": None, "row": 6},
    ]  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(("\ufeffURI", "Label ")) + "\n" + delimiter.join(("b/ü.png", "dog"))
    (row,) = read(tmp_path / "a.csv", text)
    assert (row["image_id"], row["uri"], row["label"]) == (None, "b/ü.png", "dog")


@pytest.mark.parametrize(
    ("classes", "kind"),
    [(("cat", "dog"), "skip"), (("skip", "dog"), "label"), (("Skip", "dog"), "label")],
)
def test_a_class_may_be_called_skip(tmp_path: Path, classes: tuple[str, ...], kind: str) -> None:
    rows = read(tmp_path / "a.csv", "image_id,label\ni,skip\n", classes)
    assert brief(rows) == [("i", kind, "skip" if kind == "label" else None)]


def test_a_kind_beside_the_label_is_believed(tmp_path: Path) -> None:
    text = "image_id,label,kind\ni,skip,label\ni,skip,skip\ni,whatever,none\ni,,skip\ni,,label\n"
    found = [("i", "label", "skip"), ("i", "skip", None), ("i", "none", None), ("i", "skip", None)]
    assert brief(read(tmp_path / "a.csv", text, ("skip", "dog"))) == found


@pytest.mark.parametrize(
    "times",
    [
        pa.array([NOON], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ms")),
        pa.array(["2026-11-22T12:00:00Z"]),
    ],
)
def test_parquet_under_any_name(tmp_path: Path, times: pa.Array) -> None:
    columns = {"image_id": ["i"], "label": pa.array(["cat"]).dictionary_encode()}
    pq.write_table(pa.table({**columns, "answered_at": times, "more": [1]}), tmp_path / "a.csv")
    (row,) = read_answers(str(tmp_path / "a.csv"), CLASSES).to_pylist()
    assert (row["label"], row["answered_at"], row["row"]) == ("cat", NOON, 1)


# --- what others write -------------------------------------------------------------------------

ROWS = [("a.jpg", "cat"), ("x y/b.jpg", "dog")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        "uri,label\na.jpg,cat\nx y/b.jpg,dog\n",
        "uri;label\na.jpg;cat\nx y/b.jpg;dog\n",
        "sep=;\nuri;label\na.jpg;cat\nx y/b.jpg;dog\n",
        "File_Name\tCategory\na.jpg\tcat\nx y/b.jpg\tdog\n",
        "image|class\na.jpg|cat\nx y/b.jpg|dog\n",
        "id,filename,label,class_name\n1,a.jpg,0,cat\n2,x y/b.jpg,1,dog\n",
        "path,species\na.jpg,cat\nx y/b.jpg,dog\n",
        "a.jpg,cat\nx y/b.jpg,dog\n",
        "cat;a.jpg\ndog;x y/b.jpg\n",
        "0,a.jpg,cat\n1,x y/b.jpg,dog\n",
        "image,id,animal,annotator,annotation_id\na.jpg,1,cat,1,1\nx y/b.jpg,2,dog,1,2\n",
        '{"file_name": "a.jpg", "label": "cat"}\n{"file_name": "x y/b.jpg", "label": "dog"}\n',
        '{"a.jpg": "cat", "x y/b.jpg": "dog"}',
        '[{"image": "a.jpg", "label": "cat"}, {"image": "x y/b.jpg", "label": "dog"}]',
        json.dumps(
            {
                "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "x y/b.jpg"}],
                "annotations": [
                    {"image_id": 6, "category_id": 2},
                    {"image_id": 5, "category_id": 1},
                ],
                "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            }
        ),
    ],
)  # fmt: skip
def test_labels_in_the_words_of_others(tmp_path: Path, text: str, encoding: str) -> None:
    found = read(tmp_path / "labels", text.encode(encoding))
    assert [(row["uri"], row["label"]) for row in found] == ROWS


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b,c\nx,a.jpg,cat\ny,x y/b.jpg,dog\n", "b,c"),
        ("photo;x;which one\na.jpg;1;cat\nx y/b.jpg;2;dog\n", "photo,which one"),
        ("a.jpg,1,red,cat\nx y/b.jpg,2,red,dog\n", "1,4"),
        ('[{"p": "a.jpg", "q": "cat", "r": 1}, {"p": "x y/b.jpg", "q": "dog", "r": 2}]', "p,q"),
    ],
)
def test_the_option_decides(tmp_path: Path, text: str, columns: str) -> None:
    (tmp_path / "labels").write_text(text)
    found = read_answers(str(tmp_path / "labels"), CLASSES, columns).to_pylist()
    assert [(row["uri"], row["label"]) for row in found] == ROWS


# --- Label Studio -----------------------------------------------------------------------------


def test_json_export(tmp_path: Path) -> None:
    person = {"id": 7, "email": "b@example.org"}
    remark = {"type": "textarea", "value": {"text": ["odd"]}}
    commented = choices("dog")
    commented["result"].append(remark)
    tasks = [
        task(choices("cat"), choices("dog", completed_by=person), image_id="1"),
        task({**ANNOTATION, "was_cancelled": True, "result": []}, image_id="2"),
        task(choices("None of these classes"), {**ANNOTATION, "result": []}, image_id="3"),
        task(image_id="4"),
        task(commented, image_id="5"),
    ]
    rows = read(tmp_path / "export.csv", tasks)
    assert brief(rows) == [
        ("1", "label", "cat"),
        ("1", "label", "dog"),
        ("2", "skip", None),
        ("3", "none", None),
        ("5", "label", "dog"),
    ]
    assert [row["annotator"] for row in rows] == ["3", "7", "3", "3", "3"]
    assert {row["answered_at"] for row in rows} == {NOON}
    assert [row["row"] for row in rows] == [1, 1, 2, 3, 5]


def test_json_min_export(tmp_path: Path) -> None:
    both = {"annotator": 3, "annotation_id": 1, "updated_at": ANNOTATION["updated_at"]}
    tasks = [
        {"image_id": "1", "choice": "cat", **both},
        {"image_id": "2", "choice": {"choices": ["dog"]}, **both, "annotator": "a@example.org"},
        {"image_id": "3", **both},  # handed in empty
        {"image_id": "4", "annotator": {}, "annotation_id": None},  # nobody was there
        {"image": "s3://b/5.png", "choice": ["cat"], **both},
    ]
    rows = read(tmp_path / "a", tasks)
    assert brief(rows) == [("1", "label", "cat"), ("2", "label", "dog"), (None, "label", "cat")]
    assert [row["annotator"] for row in rows] == ["3", "a@example.org", "3"]
    assert rows[2]["uri"] == "s3://b/5.png"


def test_half_of_a_surrogate_pair_is_no_accident(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "a", '[{"image_id": "1", "choice": "\\ud800", "annotator": 1}]')
    assert row["label"] == "\\ud800"


# --- what is refused --------------------------------------------------------------------------

BAD = [
    (b"", "empty file"),
    (b" \n ", "empty file"),
    (b"\xff\xd8\xff\xe0 JFIF", "a JPEG image"),
    ("image_id,label\n".encode("utf-16") + b"x", "damaged UTF-16 text"),
    (b"image_id,label\na,cat\nb,\xe9t\xe9\n", "bytes in line 3 that are not UTF-8"),
    (b"image_id\0label", "binary"),
    (b"PAR1 and no more", "expected a Parquet file"),
    ("image_id,size,labelled\n", r"a column label, got image_id, size, labelled"),
    ("a,b\n1,2\n", r"image_id \(or uri\) and a column label"),
    ('image_id,label\ni,cat\nj,"dog\n', "row 3: expected CSV"),
    ("image_id,label,answered_at\ni,cat,yesterday\n", "row 2, column answered_at: .*'yesterday'"),
    ("image_id,label,kind\ni,cat,maybe\n", "row 2, column kind: .*'maybe'"),
    ('[{"id": 1, "annotations"', "expected JSON .*export it again"),
    ("[" * 100_000, "expected JSON"),
    ('{"id": 1}', "a list of tasks, got a single dict"),
    ("a.jpg red cat\nb.jpg red dog\n", r"first rows are 'a.jpg red cat'. .*--label-columns"),
    ("image,red,blue\na,1,0\nb,0,1\n", r"\['image', 'red', 'blue'\], \['a', '1', '0'\]"),
    ("uri,label\na.jpg,cat,dog\n", "row 2 has 3 cells, the first one 2"),
    ('{"images": [{"id": 1}], "annotations": [{}], "categories": []}', "expected COCO's JSON"),
    ([1], "task 1: .*got int"),
    ([task(choices("cat")), {"data": {}, "predictions": []}], "task 2: .*data, predictions"),
    ([{"image_id": "1", "a": "cat", "b": "x", "annotation_id": 1}], "a field choice"),
    ([task(choices("cat", "dog"))], "task 1: expected one choice, got 2 choices"),
    ([task({**ANNOTATION, "result": [*choices("cat")["result"] * 2]})], "got 2 choices"),
    ([task({**ANNOTATION, "result": [{"type": "rectanglelabels"}]})], "got rectanglelabels"),
    ([task({**ANNOTATION, "result": [{"type": "videorectangle"}]})], "got videorectangle"),
    ([task({**ANNOTATION, "result": "cat"})], "a list of results"),
    ([task(choices("cat", updated_at="soon"))], "task 1, field updated_at: .*'soon'"),
    ([{"data": [], "annotations": [choices("cat")]}], "task 1: expected a task with data"),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=[words[:30] for _, words in BAD])
def test_a_file_that_is_refused(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(BadAnswers, match=words) as caught:
        read(tmp_path / "answers.csv", content)
    message = str(caught.value)
    assert isinstance(caught.value, InputError)
    assert message.startswith(f"{tmp_path / 'answers.csv'}: ")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("uri", ["/no/such/file.json", "/", "nosuch://bucket/file"])
def test_a_file_that_is_not_there(uri: str) -> None:
    with pytest.raises(BadAnswers, match="check the path"):
        read_answers(uri, CLASSES)


@pytest.mark.parametrize("content", ["image_id,label\n", [], [task()]])
def test_no_answers_are_no_error(tmp_path: Path, content: object) -> None:
    assert read(tmp_path / "a", content) == []


# --- whatever comes -----------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["annotations", "data", "result", "type", "value", "choices", "choice", "image_id", "image",
     "annotator", "annotation_id", "completed_by", "updated_at", "was_cancelled", "id"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
WORDS = LEAVES | st.sampled_from(["choices", "cat", "2026-01-01", "0001-01-01T00:00+14:00"])
TREES = st.recursive(
    WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
CELLS = st.lists(st.sampled_from([*'",;\n\t', "image_id", "label", "kind", "cat", "é", "\r"]))


def reads_or_refuses(data: bytes) -> None:
    with suppress(BadAnswers):
        assert parse_answers(data, "x", CLASSES).schema == ANSWERS


@given(st.lists(TREES | st.dictionaries(KEYS, TREES), max_size=3))
def test_any_json_is_read_or_refused(tree: object) -> None:
    reads_or_refuses(json.dumps(tree).encode())


@given(CELLS)
def test_any_csv_is_read_or_refused(cells: list[str]) -> None:
    reads_or_refuses(("image_id,label,kind,answered_at\n" + "".join(cells)).encode())


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reads_or_refuses(data)
    reads_or_refuses(b"PAR1" + data)


@given(st.data())
def test_damaged_parquet_is_read_or_refused(data: st.DataObject) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image_id": ["i", "j"], "label": ["cat", None]}), sink)
    whole = bytearray(sink.getvalue().to_pybytes())
    for place in data.draw(st.lists(st.integers(4, len(whole) - 1), max_size=5)):
        whole[place] = data.draw(st.integers(0, 255))
    reads_or_refuses(bytes(whole))
