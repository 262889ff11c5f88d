"""Labels for evaluation: beside the images by their ids, from folders, a column or a file."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.pool.label_file import BadLabels
from tasks.specs import RuntimeSpec
from tasks.storage.tables import read_table
from tests.worlds.images import encoded_image
from tests.worlds.pools import labels_of, opened, tree


def test_labels_are_not_carried_unless_asked(tmp_path: Path, memory: RuntimeSpec) -> None:
    pq.write_table(pa.table({"image": [encoded_image(1)], "label": ["a"]}), tmp_path / "t.parquet")
    ref, task = opened(tmp_path / "t.parquet", memory)
    assert list(labels_of(ref, task).values()) == [None]
    assert not task.labeled
    for name in fsspec.filesystem("memory").find(memory.workspace):
        if name.endswith(".parquet"):
            table = read_table(f"memory://{name}")
            assert "label" not in table.column_names or set(table["label"].to_pylist()) == {None}


def test_labels_of_folders(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(
        tmp_path,
        {"x/a/1.png": encoded_image(1), "b/2.png": encoded_image(2), "3.png": encoded_image(3)},
    )
    ref, task = opened(root, memory, labels="folders", classes=None)
    labels = {Path(uri).name: label for uri, label in labels_of(ref, task).items()}
    assert labels == {"1.png": "a", "2.png": "b", "3.png": None}
    assert task.classes == ("a", "b")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_of_a_file(tmp_path: Path, memory: RuntimeSpec, kind: str) -> None:
    names = ["x/o'1.png", "2.png", "3.png"]
    root = tree(tmp_path / "d", {name: encoded_image(i) for i, name in enumerate(names)})
    given = {"uri": ["x/o'1.png", str(root / "2.png"), "other.png"], "label": ["a", "b", "a"]}
    path = tmp_path / f"labels.{kind}"
    if kind == "csv":
        lines = [f'"{u}",{label}' for u, label in zip(*given.values(), strict=True)]
        path.write_text("\n".join(["uri,label", *lines]))
    else:
        pq.write_table(pa.table(given), path)
    labels = labels_of(*opened(root, memory, labels=str(path)))
    assert labels == {f"{root}/{n}": v for n, v in zip(names, ["a", "b", None], strict=True)}


def test_a_label_file_about_other_images(tmp_path: Path, memory: RuntimeSpec) -> None:
    root = tree(tmp_path / "d", {"1.png": encoded_image(1)})
    (tmp_path / "l.csv").write_text("uri,label\nother.png,a\n")
    with pytest.raises(BadLabels, match="0 of 1 labels can be used"):
        opened(root, memory, labels=str(tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text("uri,label\n1.png,a\n1.png,b\n")
    with pytest.raises(BadLabels, match=r"'1.png' is given two different labels"):
        opened(root, memory, labels=str(tmp_path / "l.csv"))
