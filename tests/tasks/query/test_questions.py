"""The named questions: what they answer, in a folder and in a bucket, and what they refuse."""

import time
from pathlib import Path

import pytest

from tasks.query.questions import disagreements, duplicates, outliers, similar
from tasks.query.sandbox import run_sql
from tasks.specs import InputError
from tasks.storage.files import remove
from tasks.storage.tables import count_rows
from tests.worlds import workspace as made
from tests.worlds.workspace import CLASSES, Made, part_of, write_workspace

# --- the named questions --------------------------------------------------------------------------


def test_an_image_is_found_by_its_names(filled: Made) -> None:
    expected = similar(filled.uri, filled.ids[9]).to_pylist()
    for name in ("photos/9.png", "9.png", filled.ids[9][:12]):
        assert similar(filled.uri, name).to_pylist() == expected
    first = similar(filled.uri, filled.ids[0]).to_pylist()
    assert similar(filled.uri, "copy.png").to_pylist() == first  # equal bytes, one embedding


def test_an_image_without_or_with_too_many_answers(filled: Made, tmp_path: Path) -> None:
    initial = next(c for c in "0123456789abcdef" if sum(i[0] == c for i in filled.ids) > 1)
    with pytest.raises(InputError, match="several images begin or end so"):
        similar(filled.uri, initial)
    for name in ("", "none.png"):
        with pytest.raises(InputError, match="no image of the pool"):
            similar(filled.uri, name)
    with pytest.raises(InputError, match="at least 1, got 0"):
        similar(filled.uri, filled.ids[0], 0)
    ids = made.write_pool(str(tmp_path), "p" * 16, list(range(16)))
    vectors = made.unit_vectors(16, 4)
    made.write_embeddings(str(tmp_path), "e" * 16, ids[:15], vectors[:15])
    with pytest.raises(InputError, match="no embedding"):
        similar(str(tmp_path), ids[15])


def test_disagreements_of_members_and_of_zero_shot(filled: Made) -> None:
    found = disagreements(filled.uri, 10).to_pylist()
    named = [(row["uri"], row["between"], row["first"], row["second"]) for row in found]
    assert named == [
        ("photos/2.png", "members", CLASSES[2], CLASSES[1]),
        ("photos/4.png", "zero-shot and adapted", "dog", "cat"),
    ]
    assert found[0]["confidence"] == pytest.approx(0.96)
    assert found[1]["confidence"] == pytest.approx(0.5)
    assert disagreements(filled.uri, 1).num_rows == 1


def test_disagreements_of_peers_before_there_are_predictions(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    with pytest.raises(InputError, match="nothing to compare yet"):
        disagreements(uri)
    one, two = ["cat"] * 16, ["cat"] * 14 + ["dog"] * 2
    sure = [0.6] * 14 + [0.7, 0.9]
    made.write_labels(uri, "1" * 16, "peer-1", ids, one, confidence=sure)
    made.write_labels(uri, "2" * 16, "peer-2", ids, two, confidence=[0.8] * 16)
    found = disagreements(uri).to_pylist()
    assert [row["image_id"] for row in found] == [ids[15], ids[14]]
    assert [row["confidence"] for row in found] == pytest.approx([0.8, 0.7])


# --- a bucket -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "a'b*"])
def test_a_bucket_answers_like_a_folder(filled: Made, name: str) -> None:
    uri = f"memory://query-{time.time_ns()}/{name}"
    write_workspace(uri)
    write_workspace(uri.replace("a'b*", "a'bc") + "-sibling")
    sql = "select source, count(*), min(digest) from labels group by 1 order by 1"
    assert run_sql(uri, sql).equals(run_sql(filled.uri, sql))
    assert similar(uri, "9.png").equals(similar(filled.uri, "9.png"))
    assert duplicates(uri).equals(duplicates(filled.uri))
    assert outliers(uri).equals(outliers(filled.uri))
    assert disagreements(uri).equals(disagreements(filled.uri))
    part = part_of(uri, filled.ids[:16])
    for sql in (f"copy (select 1) to '{uri}/x.csv'", "from read_parquet('memory://*/*.parquet')"):
        with pytest.raises(InputError):
            run_sql(uri, sql.replace("a'b", "a''b"))
    assert count_rows(part) == 16
    remove(uri)


# --- errors for people ----------------------------------------------------------------------------


def test_a_missing_part_is_an_input_error(tmp_path: Path) -> None:
    filled = write_workspace(str(tmp_path))
    name = part_of(str(tmp_path), filled.ids[32:]).rpartition("/")[2]
    (tmp_path / "embeddings" / ("e" * 16) / name).unlink()
    with pytest.raises(InputError, match=name):
        run_sql(filled.uri, "select count(embedding) from embeddings")
    with pytest.raises(InputError, match=name):
        similar(filled.uri, filled.ids[0])
