"""Imports lose nothing and add nothing twice; the decision follows from all of them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.annotations.schema import IMPORTED, BadAnswers
from tasks.answers.merging import Votes, add_votes, count_votes
from tasks.answers.outcome import ImportReport
from tasks.answers.record import import_answers, iter_imports, merge
from tasks.answers.schema import MERGED
from tasks.storage.files import names_in
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join

Import = Callable[..., ImportReport]


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "rounds ü") if request.param == "local" else f"memory://{uuid4().hex}/r"


@pytest.fixture
def add(tmp_path: Path, folder: str, classes: tuple[str, ...], pool: pa.Table) -> Import:
    """Return `add(text or bytes)`, which imports a file with that content; six were asked about."""
    queried = frozenset(pool["image_id"].to_pylist()[:6])

    def parts() -> Iterator[pa.Table]:
        yield pool.slice(0, 5)
        yield pool.slice(5)

    def add(content: str | bytes) -> ImportReport:
        path = tmp_path / f"{uuid4().hex}.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return import_answers(folder, str(path), classes=classes, pool=parts(), queried=queried)

    return add


def lines_of(*rows: tuple[Any, ...]) -> str:
    head = ("image_id", "label", "annotator", "answered_at")
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in (head, *rows))


def decisions(folder: str) -> dict[str, tuple[str, str | None, str]]:
    rows = merge(folder).to_pylist()
    return {row["image_id"]: (row["kind"], row["label"], row["votes"]) for row in rows}


def test_an_import_is_one_file_and_says_what_was_in_it(
    add: Import, folder: str, pool: pa.Table
) -> None:
    ids = pool["image_id"].to_pylist()
    report = add(
        lines_of(
            (ids[0], " CAT "),
            (ids[1], "ünicorn"),
            (ids[2], "skip"),
            (ids[3], "none of these classes"),
            (ids[9], "dog"),
            ("0" * 64, "dog"),
            (ids[4], "dgo"),
            ("", "dog"),
        )
    )
    assert names_in(join(folder, "answers")) == {report.file}
    assert report.model_dump(exclude={"source", "file"}) == {
        "imported_before": False,
        "num_answers": 8,
        "num_new": 5,
        "num_repeated": 0,
        "num_changed": 0,
        "num_skipped": 1,
        "num_none": 1,
        "num_unknown_images": 2,
        "num_unknown_labels": 1,
        "unknown_images": ("0" * 64, ""),
        "unknown_labels": ("dgo",),
        "conflicts": (),
        "num_volunteered": 1,
        "num_missing": 2,
        "num_queried": 6,
    }
    (table,) = iter_imports(folder)
    assert table.schema.remove_metadata() == IMPORTED
    written = [" CAT ", "ünicorn", None, None, "dog", "dog", "dgo", "dog"]
    assert table["written"].to_pylist() == written
    assert table["label"].to_pylist()[:2] == ["cat", "Ünicorn"]
    assert table["problem"].to_pylist()[5:] == ["unknown-image", "unknown-label", "no-image-given"]
    said = "\n".join(report.lines())
    assert "8 answers, 5 new" in said
    assert "'dgo' is no class name" in said
    assert "4 of 6 images" in said


def test_the_same_content_is_added_once(add: Import, folder: str, pool: pa.Table) -> None:
    ids = pool["image_id"].to_pylist()
    text = lines_of((ids[0], "cat"), (ids[1], "nothing like it"))
    first, before = add(text), decisions(folder)
    add(lines_of((ids[0], "dog")))
    again = add(text)
    assert (again.imported_before, again.file, again.num_new) == (True, first.file, 0)
    assert again.num_repeated == 1
    assert "imported before" in again.lines()[0]
    assert before == {ids[0]: ("label", "cat", "cat 1")}
    assert decisions(folder) == {ids[0]: ("label", "dog", "dog 1")}
    assert len(names_in(join(folder, "answers"))) == 2


def test_a_bad_or_empty_file_adds_nothing(add: Import, folder: str) -> None:
    with pytest.raises(BadAnswers):
        add(b"\xff\xd8\xff")
    assert "nothing was added" in add("image_id,label\n").lines()[0]
    assert names_in(join(folder, "answers")) == set()
    assert merge(folder).schema == MERGED


def test_images_are_found_by_path(add: Import, folder: str, pool: pa.Table) -> None:
    ids, uris = (pool[name].to_pylist() for name in ("image_id", "uri"))
    given = [uris[0], "b/0.png", "./a/1.png", "0.png", "rows.parquet#3", "c/0.png", "x" + uris[2]]
    add("uri,label\n" + "".join(f"{uri},cat\n" for uri in given))
    (table,) = iter_imports(folder)
    assert table["image_id"].to_pylist() == [ids[0], ids[1], ids[2], None, ids[9], None, ids[2]]
    problems = [None, None, None, "ambiguous-uri", None, "unknown-image", None]
    assert table["problem"].to_pylist() == problems


def test_a_label_that_fits_two_classes_is_unknown(tmp_path: Path, pool: pa.Table) -> None:
    ids = pool["image_id"].to_pylist()
    (tmp_path / "a.csv").write_text(lines_of((ids[0], "Cat"), (ids[1], "CAT"), (ids[2], "cat ")))
    import_answers(
        str(tmp_path), str(tmp_path / "a.csv"), classes=("cat", "Cat"), pool=[pool], queried=set()
    )
    (table,) = iter_imports(str(tmp_path))
    assert table["label"].to_pylist() == ["Cat", "CAT", "cat"]
    assert table["problem"].to_pylist() == [None, "unknown-label", None]


def test_the_same_content_counts_again_with_other_classes(tmp_path: Path, pool: pa.Table) -> None:
    (tmp_path / "a.csv").write_text(lines_of((pool["image_id"][0].as_py(), "fox")))
    for classes, usable in ((("cat", "dog"), 0), (("cat", "fox"), 1), (("cat", "fox"), 1)):
        report = import_answers(
            str(tmp_path), str(tmp_path / "a.csv"), classes=classes, pool=[pool], queried=set()
        )
        assert merge(str(tmp_path)).num_rows == usable
    assert report.imported_before
    assert report.file.startswith("0002-")


def test_the_latest_answer_of_an_annotator_counts(add: Import, folder: str, pool: pa.Table) -> None:
    image = pool["image_id"][0].as_py()
    add(lines_of((image, "cat", "ann", "2026-11-22T10:00")))
    late = add(lines_of((image, "dog", "ann", "2026-11-22T09:00")))
    assert (late.num_new, late.num_changed) == (0, 1)
    assert decisions(folder)[image] == ("label", "cat", "cat 1")
    add(lines_of((image, "dog", "ann"), (image, "Ünicorn", "ann")))
    assert decisions(folder)[image] == ("label", "Ünicorn", "Ünicorn 1")


def test_annotators_vote_and_a_tie_is_open(add: Import, folder: str, pool: pa.Table) -> None:
    image = pool["image_id"][0].as_py()
    skipped = add(lines_of((image, "skip", "a"), (image, "skip", "b")))
    assert decisions(folder)[image] == ("skip", None, "skip 2")
    assert skipped.num_missing == 5
    add(lines_of((image, "none of these classes", "c")))
    assert decisions(folder)[image][:2] == ("none", None)
    report = add(lines_of((image, "dog", "d")))
    assert decisions(folder)[image][:2] == ("conflict", None)
    assert report.conflicts == (image,)
    assert "1 image with conflicting answers" in "\n".join(report.lines())
    assert add(lines_of((image, "dog", "e"))).conflicts == ()
    votes = "dog 2, skip 2, none of these classes 1"
    assert decisions(folder)[image] == ("label", "dog", votes)
    assert merge(folder)["num_annotators"].to_pylist() == [5]


def test_the_tenth_thousand_import_comes_last(add: Import, folder: str, pool: pa.Table) -> None:
    image = pool["image_id"][0].as_py()
    first = add(lines_of((image, "cat")))
    names = ("9999-" + "f" * 12 + ".parquet", "10000-" + "0" * 12 + ".parquet")
    table = read_table(join(folder, "answers", first.file))
    for name, label in zip(names, ("dog", "Ünicorn"), strict=True):
        changed = table.set_column(3, "label", pa.array([label]))
        write_table(join(folder, "answers", name), changed)
    assert decisions(folder)[image][1] == "Ünicorn"
    assert add(lines_of((image, "skip"))).file.startswith("10001-")


# --- properties -------------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)


def _table(rows: list[tuple[str, str, str, datetime | None]]) -> pa.Table:
    answers = [
        {
            "image_id": image,
            "annotator": person,
            "kind": word if word in ("skip", "none") else "label",
            "label": None if word in ("skip", "none") else word,
            "answered_at": time,
        }
        for image, person, word, time in rows
    ]
    return pa.Table.from_pylist(answers, IMPORTED)


def _merged(tables: list[pa.Table]) -> list[dict[str, Any]]:
    votes: Votes = {}
    for table in tables:
        add_votes(votes, table)
    rows: list[dict[str, Any]] = count_votes(votes).to_pylist()
    return rows


WORD = st.sampled_from(["cat", "dog", "skip", "none"])
GIVEN = st.tuples(st.sampled_from("ij"), st.sampled_from("abc"), WORD)
TIMES = st.integers(0, 3).map(lambda hours: START + timedelta(hours=hours)) | st.none()
FILES = st.lists(st.lists(st.tuples(GIVEN, TIMES).map(lambda p: (*p[0], p[1])), max_size=6))


@given(st.lists(GIVEN, max_size=12), st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_does_not_matter_where_times_are_known(
    given: list[tuple[str, str, str]], random: Any, size: int
) -> None:
    rows = [(*answer, START + timedelta(seconds=i)) for i, answer in enumerate(given)]
    expected = _merged([_table(rows)])
    random.shuffle(rows)
    assert _merged([_table(rows[i : i + size]) for i in range(0, len(rows), size)]) == expected


@given(FILES)
def test_everything_twice_changes_nothing(files: list[Any]) -> None:
    tables = [_table(rows) for rows in files]
    assert _merged(tables * 2) == _merged(tables)


@given(FILES)
def test_no_answer_is_lost(files: list[Any]) -> None:
    merged = _merged([_table(rows) for rows in files])
    people = {(image, person) for rows in files for image, person, *_ in rows}
    assert {row["image_id"]: row["num_annotators"] for row in merged} == {
        image: sum(image == other for other, _ in people) for image in {i for i, _ in people}
    }
    for row in merged:
        counts = [int(vote.rsplit(" ", 1)[1]) for vote in row["votes"].split(", ")]
        assert sum(counts) == row["num_annotators"]
        assert (row["label"] is not None) == (row["kind"] == "label")


@given(FILES)
def test_counts_cover_every_answer(files: list[Any]) -> None:
    votes: Votes = {}
    for rows in files:
        counts = add_votes(votes, _table(rows))
        assert sum(counts.values()) == len(rows)


def test_json_and_csv_of_one_person_are_one_vote(add: Import, folder: str, pool: pa.Table) -> None:
    image = pool["image_id"][0].as_py()
    result = [{"type": "choices", "value": {"choices": ["cat"]}}]
    annotation = {"completed_by": 1, "updated_at": "2026-11-22T10:00:00Z", "result": result}
    add(json.dumps([{"data": {"image_id": image}, "annotations": [annotation]}]))
    report = add(lines_of((image, "cat", 1, "2026-11-22T10:00:00Z")))
    assert (report.num_new, report.num_repeated) == (0, 1)
    assert decisions(folder)[image] == ("label", "cat", "cat 1")
