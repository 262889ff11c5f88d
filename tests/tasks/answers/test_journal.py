"""Answers that come one by one: on the disk before they count, taken back, merged with imports."""

from pathlib import Path

import pytest

from tasks.answers import journal
from tasks.answers.journal import Journal, Said
from tasks.answers.record import FOLDER, import_names, iter_imports, merge


def label(image: str, name: str) -> Said:
    return Said(image, "label", name)


def decided(folder: Path) -> dict[str, tuple[str, str | None]]:
    return {row["image_id"]: (row["kind"], row["label"]) for row in merge(str(folder)).to_pylist()}


def test_an_answer_is_in_the_record_at_once(tmp_path: Path) -> None:
    page = Journal(str(tmp_path), "page")
    assert page.add("ann", [label("a", "cat")]) == 1
    assert decided(tmp_path) == {"a": ("label", "cat")}
    page.add("ann", [Said("b", "none", None), Said("c", "skip", None)])
    assert decided(tmp_path)["b"] == ("none", None)
    assert Journal(str(tmp_path), "page").votes == page.votes
    (rows,) = (table.to_pylist() for table in iter_imports(str(tmp_path)))
    assert {row["annotator"] for row in rows} == {"ann"}
    assert all(row["answered_at"] for row in rows)


def test_the_same_said_again_is_no_news(tmp_path: Path) -> None:
    page = Journal(str(tmp_path), "page")
    page.add("ann", [label("a", "cat")])
    assert page.add("ann", [label("a", "cat")]) == 0
    assert page.add("ben", [label("a", "cat")]) == 1
    assert page.add("ann", [Said("b", "undone", None)]) == 0  # there is nothing to take back
    (table,) = iter_imports(str(tmp_path))
    assert table.num_rows == 2


def test_what_is_taken_back_is_no_vote_and_may_be_said_again(tmp_path: Path) -> None:
    page = Journal(str(tmp_path), "page")
    page.add("ann", [label("a", "cat")])
    page.add("ann", [Said("a", "undone", None)])
    assert decided(tmp_path) == {}
    page.add("ann", [label("a", "dog")])
    assert decided(tmp_path) == {"a": ("label", "dog")}


def test_many_answers_are_a_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST", 4)
    page = Journal(str(tmp_path), "page")
    for number in range(9):
        page.add("ann", [label(f"image {number}", "cat")])
    assert [table.num_rows for table in iter_imports(str(tmp_path))] == [4, 4, 1]
    assert len(decided(tmp_path)) == 9
    page.add("ann", [label(f"image {number}", "dog") for number in range(9)])  # more than fit
    assert set(decided(tmp_path).values()) == {("label", "dog")}


def test_what_others_add_is_seen(tmp_path: Path) -> None:
    one, two = Journal(str(tmp_path), "page"), Journal(str(tmp_path), "page")
    one.add("ann", [label("a", "cat")])
    assert two.refresh()
    assert not two.refresh()
    two.add("ben", [label("a", "dog")])
    assert decided(tmp_path) == {"a": ("conflict", None)}
    assert len(import_names(str(tmp_path))) == 2


def test_what_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    page = Journal(str(tmp_path), "page")
    page.add("ann", [label("a", "cat")])
    folder, away = tmp_path / FOLDER, tmp_path / "away"
    folder.rename(away)
    folder.write_text("in the way")
    with pytest.raises(OSError, match="answers"):
        page.add("ann", [label("b", "cat")])
    folder.unlink()
    away.rename(folder)
    assert set(page.votes) == {("a", "ann")}
    assert page.add("ann", [label("b", "cat")]) == 1
