"""The catalog: every image once, by content, and test images apart."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.images.quarantine import SCHEMA
from tasks.pool import catalog
from tasks.specs import RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import join
from tests.worlds.images import encoded_image
from tests.worlds.pools import bad_rows_of, images_of, labels_of, names_of, opened, rows_of, tree


def test_the_files_have_the_agreed_columns(tmp_path: Path, memory: RuntimeSpec) -> None:
    ref = images_of(tree(tmp_path, {"1.png": encoded_image(1), "2.png": b""}), memory)
    (images,) = iter_tables(ref.uri)
    (bad,) = iter_tables(join(ref.uri, "quarantine"))
    assert images.schema.equals(catalog.IMAGES)
    assert bad.schema.equals(SCHEMA)
    assert (images.num_rows, bad.num_rows) == (1, 1)


def test_duplicates_name_the_first(tmp_path: Path, memory: RuntimeSpec) -> None:
    same = encoded_image(1)
    root = tree(tmp_path, {"a.png": same, "b.png": encoded_image(2), "c.png": same, "d.png": same})
    ref = images_of(root, memory, rows_per_shard=2)
    first = str(root / "a.png")
    assert [row["duplicate_of"] for row in rows_of(ref)] == [None, None, first, first]
    assert (ref.num_pool, ref.num_duplicates) == (2, 2)


def test_an_image_in_both_splits_is_test_only(tmp_path: Path, memory: RuntimeSpec) -> None:
    pool = tree(tmp_path / "a_pool", {"1.png": encoded_image(1), "2.png": encoded_image(2)})
    test = tree(tmp_path / "b_test", {"9.png": encoded_image(1), "8.png": encoded_image(3)})
    ref = images_of(pool, memory, test=str(test))
    used = {(r["split"], Path(r["uri"]).name): r["duplicate_of"] for r in rows_of(ref)}
    assert used == {
        ("pool", "1.png"): str(test / "9.png"),
        ("pool", "2.png"): None,
        ("test", "9.png"): None,
        ("test", "8.png"): None,
    }
    assert (ref.num_pool, ref.num_test, ref.num_duplicates) == (1, 2, 1)


def test_a_test_folder_inside_the_images_is_test_only(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path, {"1.png": encoded_image(1), "test/2.png": encoded_image(2)})
    ref = images_of(root, memory, test=str(root / "test"))
    trained = [r for r in rows_of(ref) if r["split"] == "pool" and r["duplicate_of"] is None]
    assert names_of(trained) == ["1.png"]


def test_splits_of_a_parquet(tmp_path: Path, memory: RuntimeSpec) -> None:
    images = [encoded_image(seed) for seed in (0, 1, 2, 3, 0)]
    splits = ["train", "test", None, "TEST", "test"]
    table = pa.table({"image": images, "split": splits, "label": ["a", "b", "a", None, "b"]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    ref, task = opened(tmp_path / "t.parquet", memory, labels="column", rows_per_shard=3)
    rows = rows_of(ref)
    assert [row["uri"].rpartition("#")[2] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["split"] for row in rows] == ["pool", "test", "pool", "test", "test"]
    assert list(labels_of(ref, task).values()) == ["b", "b", "a", None, "b"], "of the test image"
    assert rows[0]["duplicate_of"] == f"{tmp_path}/t.parquet#4"
    assert (ref.num_pool, ref.num_test, task.labeled) == (1, 3, True)


def test_a_parquet_of_names(tmp_path: Path, memory: RuntimeSpec) -> None:
    tree(tmp_path, {"d/1.png": encoded_image(1), "2.png": encoded_image(2)})
    uris = ["1.png", "../2.png", str(tmp_path / "2.png"), "no.png", None]
    pq.write_table(pa.table({"uri": uris, "label": list("abaaa")}), tmp_path / "d" / "t.parquet")
    ref, task = opened(tmp_path / "d" / "t.parquet", memory, labels="column")
    assert names_of(rows_of(ref)) == ["2.png", "2.png", "1.png"]
    assert [row["name"] for row in rows_of(ref)] == ["../2.png", str(tmp_path / "2.png"), "1.png"]
    assert list(labels_of(ref, task).values()) == ["b", "a"]
    assert [row["reason"] for row in bad_rows_of(ref)] == ["unreadable"] * 2
