"""Views against what PyArrow reads."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.query.questions import similar
from tasks.query.sandbox import run_sql
from tasks.specs import InputError
from tests.worlds import workspace as made
from tests.worlds.workspace import CLASSES, Made, value


@pytest.mark.parametrize(
    ("view", "folder"),
    [
        ("images", "pool/pppppppppppppppp/images"),
        ("quarantine", "pool/pppppppppppppppp/quarantine"),
        ("embeddings", "embeddings"),
        ("labels", "labels"),
        ("predictions", "predictions"),
    ],
)
def test_views_have_the_rows_that_pyarrow_reads(filled: Made, view: str, folder: str) -> None:
    names = sorted((Path(filled.uri) / folder).rglob("*.parquet"))
    tables = [pq.read_table(name) for name in names]
    expected = pa.concat_tables(tables, promote_options="permissive")
    found = run_sql(filled.uri, f"from {view}")
    assert found.num_rows == expected.num_rows > 0
    more = ["label"] if view == "images" else []
    assert found.column_names == [*expected.column_names, *more, "digest"]
    key = "uri" if view in ("images", "quarantine") else "image_id"
    assert sorted(found[key].to_pylist()) == sorted(expected[key].to_pylist())


def test_counts_by_label_equal_those_written(filled: Made) -> None:
    found = run_sql(filled.uri, "select label, count(*) as n from labels group by 1 order by 1")
    assert found.to_pylist() == [{"label": name, "n": 48} for name in sorted(CLASSES)]


def test_embeddings_are_arrays_that_sql_can_compare(filled: Made) -> None:
    assert value(filled.uri, "select distinct typeof(embedding) from embeddings") == "FLOAT[8]"
    sql = "select max(abs(array_inner_product(embedding, embedding) - 1)) < 1e-5 from embeddings"
    assert value(filled.uri, sql) is True


def test_class_report_counts(filled: Made) -> None:
    rows = {row["label"]: row for row in run_sql(filled.uri, "from class_report()").to_pylist()}
    assert rows["cat"]["num_predicted"] == 17  # image 4 too
    assert rows["dog"]["num_predicted"] == 15
    assert rows["cat"]["recall"] == 1
    assert rows["dog"]["recall"] == pytest.approx(15 / 16)
    assert rows["dog"]["num_labeled"] == 16


def test_similar_images_macro_equals_similar(filled: Made) -> None:
    sql = f"from similar_images('{filled.ids[0]}', 5)"
    by_sql = run_sql(filled.uri, sql)
    by_product = similar(filled.uri, filled.ids[0], 5)
    assert by_sql["image_id"].to_pylist() == by_product["image_id"].to_pylist()


def test_a_pool_alone_has_empty_views_of_the_right_columns(tmp_path: Path) -> None:
    made.write_pool(str(tmp_path), "p" * 16, [0, 1, 2])
    for view in ("embeddings", "labels", "predictions"):
        assert run_sql(str(tmp_path), f"from {view}").num_rows == 0
    assert value(str(tmp_path), "select count(*) from class_report()") == 0
    with pytest.raises(InputError, match="no embeddings yet; run `coft embed`"):
        similar(str(tmp_path), "0.png")


@pytest.mark.parametrize(
    "name", ["a'b*", "a?b", "a[b]", "a[b", "k=v", "a;b --", "é\n", "back\\slash"]
)
def test_folder_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    for folder, rows in ((name, 16), ("a'bc", 32), ("axb", 32), ("ab", 32)):
        ids = made.write_pool(str(tmp_path / folder), "p" * 16, list(range(rows)))
        vectors = made.unit_vectors(rows, 4)
        made.write_embeddings(str(tmp_path / folder), "e" * 16, ids, vectors)
    workspace = str(tmp_path / name)
    assert value(workspace, "select count(*) from images") == 17
    assert value(workspace, "select count(*) from embeddings") == 16
    assert similar(workspace, ids[0], 3).num_rows == 3
