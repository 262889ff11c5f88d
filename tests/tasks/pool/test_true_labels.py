"""Class names and labels: where they come from, and one clear sentence when they do not fit."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.pool.classes import BadClassNames, NoClassNames
from tasks.pool.label_file import BadLabels
from tasks.pool.parquet_labels import read_labels
from tasks.pool.true_labels import check_input, label_names, list_sources, read_classes
from tasks.pool.understood import LabelCounts
from tasks.specs import InputError, PoolSpec

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043")


def spec(images: Path | str = "/none", **others: Any) -> PoolSpec:
    return PoolSpec(images=str(images), **others)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def table(path: Path, metadata: dict[str, str] | None = None, **columns: Any) -> Path:
    rows = len(next(iter(columns.values()))) if columns else 2
    made = pa.table({"image": [b"x"] * rows, **columns})
    pq.write_table(made.replace_schema_metadata(metadata), path)
    return path


# --- class names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "c.txt",
            "cat\n\n# a comment\n  hot dog \nsea_lion\nC#\n",
            ("cat", "hot dog", "sea_lion", "C#"),
        ),
        ("bom.txt", "\ufeffcat\r\ndog\r\n", ("cat", "dog")),
        ("quotes.txt", "it's\nx'); DROP--\nüñ,x\n", ("it's", "x'); DROP--", "üñ,x")),
        ("first.csv", 'cat,1\n"dog, hot",2\n', ("cat", "dog, hot")),
        ("named.csv", "id,Label\n1,cat\n2,dog\n", ("cat", "dog")),
        ("class.csv", "class\ncat\ndog\n", ("cat", "dog")),
    ],
)
def test_names_in_a_file(tmp_path: Path, name: str, content: str, expected: tuple[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert read_classes(spec(classes=str(tmp_path / name))) == expected


def test_names_in_a_list() -> None:
    assert read_classes(spec(classes="cat, hot dog ,sea_lion,")) == ("cat", "hot dog", "sea_lion")
    long = ",".join(f"class {i}" for i in range(5000))
    assert len(read_classes(spec(classes=long))) == 5000


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (JPEG, "a JPEG image, which is not text"),
        (b"PAR1 and more", "a Parquet file, which is not text"),
        (b"cat\0dog\n", "not text"),
        (b"cat\nd\xf6g\n", "bytes in line 2 that are not UTF-8"),
        (b"", "got none"),
        (b"# only a comment\n\n", "got none"),
        (b"cat\n", "only 'cat'"),
        (b"cat\ndog\ncat\n", "'cat' in line 1 and 'cat' in line 3"),
        (b"cat\ndog\ncat\ndog\n", "'dog' in line 2 and 'dog' in line 4"),
        (b"\ncat\n# pets\nCat\n", "'cat' in line 2 and 'Cat' in line 4"),
        (b"ice cream\nx\nIce  cream \n", "'ice cream' in line 1 and 'Ice  cream' in line 3"),
        ("caf\u00e9\ncafe\u0301\n".encode(), r"'café' in line 1 and 'cafe\\u0301' in line 2"),
        ("stra\u00dfe\nSTRASSE\n".encode(), "'straße' in line 1 and 'STRASSE' in line 2"),
        (b"cat\nhot\tdog\x07\n", "control characters"),
    ],
)
def test_a_file_that_is_no_list_of_names(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "c.txt").write_bytes(content)
    with pytest.raises(BadClassNames, match=word) as caught:
        read_classes(spec(classes=str(tmp_path / "c.txt")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", ["/no/such/file.txt", "cat", "cat,cat", "cat,", ",", ""])
def test_what_is_neither_a_file_nor_a_list(classes: str) -> None:
    with pytest.raises(BadClassNames):
        read_classes(spec(classes=classes))


def test_a_folder_is_no_file_of_names(tmp_path: Path) -> None:
    with pytest.raises(BadClassNames, match="expected a text file"):
        read_classes(spec(classes=str(tmp_path)))


def test_names_in_the_metadata_keep_their_order(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", {"classes": '["b", "a"]'}, label=["a", "b"])
    assert read_classes(spec(path)) == ("b", "a")
    assert read_classes(spec(path, classes="x,y")) == ("x", "y")


def test_names_in_the_metadata_of_hugging_face(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    path = table(tmp_path / "t.parquet", {"huggingface": json.dumps(info)}, label=[1, 0, -1, 7])
    assert read_classes(spec(path)) == ("cat", "dog")
    assert read_labels(str(path)).to_pylist() == ["dog", "cat", None, "7"]
    assert label_names(spec(path, labels="column"), list_sources(spec(path))) == ["7", "cat", "dog"]


@pytest.mark.parametrize("metadata", ["not json", '{"a": 1}', "[1, 2]", '["only"]', '["a", "a"]'])
def test_metadata_that_is_no_list_of_names(tmp_path: Path, metadata: str) -> None:
    path = table(tmp_path / "t.parquet", {"classes": metadata})
    with pytest.raises(BadClassNames):
        read_classes(spec(path))


def test_names_from_labels_are_sorted(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", label=["b", "a", None, "b"])
    assert read_classes(spec(path, labels="column")) == ("a", "b")
    touch(tmp_path / "d", "x/zebra/1.png", "ant/2.png", "ant/3.png", "stray.png")
    assert read_classes(spec(tmp_path / "d", labels="folders")) == ("ant", "zebra")
    (tmp_path / "l.csv").write_text("label,uri\n007,a.png\n1,b.png\n")
    assert read_classes(spec(tmp_path / "d", labels=str(tmp_path / "l.csv"))) == ("007", "1")


def test_no_names_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoClassNames, match="--classes"):
        read_classes(spec(touch(tmp_path, "a.png")))


def test_labels_of_one_class_are_too_few(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.png", "ant/2.png")
    with pytest.raises(BadClassNames, match="only 'ant'"):
        read_classes(spec(tmp_path, labels="folders"))


# --- labels ---------------------------------------------------------------------------------


def check(given: PoolSpec, *classes: str) -> LabelCounts | None:
    names = ",".join(classes or ("a", "b"))
    return check_input(given.model_copy(update={"classes": names})).labels


def test_labels_that_fit(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", label=["a", "b"])
    check(spec(path))
    check(spec(path, labels="column"))
    check(spec(touch(tmp_path / "d", "a/1.png", "b/2.png"), labels="folders"))


def test_the_column_is_not_there(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", name=["x", "y"])
    with pytest.raises(BadLabels, match=r"expected a column label .* got image, name"):
        check(spec(path, labels="column"))
    with pytest.raises(BadLabels, match="image files"):
        check(spec(touch(tmp_path / "d", "a/1.png"), labels="column"))


def test_folders_of_a_parquet(tmp_path: Path) -> None:
    with pytest.raises(BadLabels, match="no folders"):
        check(spec(table(tmp_path / "t.parquet", label=["a", "b"]), labels="folders"))


def test_no_image_lies_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadLabels, match="got none"):
        check(spec(touch(tmp_path, "1.png", "2.png"), labels="folders"))


def test_unknown_names_are_told(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", label=["x'); DROP--", "a", "l2"])
    with pytest.raises(BadLabels, match=r"not among the 2 class names \(a, b, ...\): .*DROP--"):
        check(spec(path, labels="column"))
    counts = check(spec(path, labels="column", allow_partial_labels=True))
    assert counts is not None
    assert (counts.num_matched, counts.num_unknown) == (1, 2)
    assert counts.unknown == (f"{path}#0: x'); DROP--", f"{path}#2: l2")


def test_with_test_images_only_their_folders_are_labels(tmp_path: Path) -> None:
    pool = touch(tmp_path / "pool", "batch1/1.png")
    test = touch(tmp_path / "test", "a/1.png", "b/1.png")
    check(spec(pool, test=str(test), labels="folders"))


def test_a_label_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadLabels, match="no such file"):
        check(spec(touch(tmp_path, "a/1.png"), labels="colum"))


def test_every_error_is_an_input_error() -> None:
    assert all(issubclass(kind, InputError) for kind in (BadClassNames, NoClassNames, BadLabels))
