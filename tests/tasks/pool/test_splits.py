"""Trees and files that say in their names what is for training and what is held out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.images.listing import NoImages
from tasks.images.sources import list_source
from tasks.pool.splits import Setting, find_splits, split_of
from tasks.specs import RuntimeSpec
from tests.worlds.images import encoded_image
from tests.worlds.pools import labels_of, opened, rows_of, tree


def images(root: Path, *names: str) -> Path:
    return tree(root, {name: encoded_image(number) for number, name in enumerate(names)})


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("train/a/1.png", "train/b/2.png", "test/a/3.png"), {"train": 2, "test": 1}),
        (("Train/1.png", "TEST/2.png", "valid/3.png"), {"Train": 1, "TEST": 1, "valid": 1}),
        (("training/1.png", "validation/2.png", "more/3.png"), {"training": 1, "validation": 1}),
        (("train/1.png", "val/2.png", "3.png"), {"train": 1, "val": 1}),
        (("train/a/1.png", "car/2.png", "bus/3.png"), {}),
        (("test/a/1.png", "test/b/2.png"), {}),
        (("train/1.png", "dev/2.png", "eval/3.png"), {"train": 1, "dev": 1, "eval": 1}),
        (("a/train/1.png", "b/train/2.png"), {}),
        (("train.png", "test.png"), {}),
    ],
)
def test_folders(tmp_path: Path, names: tuple[str, ...], found: dict[str, int]) -> None:
    source = list_source(str(images(tmp_path, *names)))
    assert find_splits(source, "auto") == found
    assert find_splits(source, "no") == {}


@pytest.mark.parametrize(
    "names",
    [
        ("cat/train/1.png", "cat/test/2.png", "dog/train/3.png"),
        ("data/train/cat/1.png", "data/val/cat/2.png"),
        ("a/Training/1.png", "b/Evaluation/2.png"),
    ],
)
def test_splits_further_down_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = list_source(str(images(tmp_path, *names)))
    with pytest.raises(NoImages, match=r"no first folders.* --images, .*--split-folders no"):
        find_splits(source, "auto")
    assert find_splits(source, "no") == find_splits(source, "auto", strict=False) == {}


def test_what_is_not_certain_is_refused_and_the_option_decides(tmp_path: Path) -> None:
    source = list_source(str(images(tmp_path, "test/1.png", "cat/2.png")))
    with pytest.raises(NoImages, match=r"test/ .* --split-folders yes .* --split-folders no"):
        find_splits(source, "auto")
    assert find_splits(source, "auto", strict=False) == {}
    assert find_splits(source, "yes") == {"test": 1}
    with pytest.raises(NoImages, match="no first folder called"):
        find_splits(list_source(str(tmp_path / "cat")), "yes")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("train-00000-of-00002", "train-00001-of-00002", "test"), {"train": 2, "test": 1}),
        (("data/train-00000-of-00001", "data/validation-00000-of-00001"),
         {"train": 1, "validation": 1}),
        (("default/train/0000", "default/test/0000"), {"train": 1, "test": 1}),
        (("part-0", "part-1"), {}),
        (("trainset", "testset"), {}),
    ],
)  # fmt: skip
def test_files_of_parquet(tmp_path: Path, names: tuple[str, ...], found: dict[str, int]) -> None:
    for name in names:
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [b"x"]}), path)
    assert find_splits(list_source(str(tmp_path)), "auto") == found


@pytest.mark.parametrize(("setting", "num_test"), [("auto", 2), ("no", 0)])
def test_held_out_images_are_never_trained_on(
    tmp_path: Path, memory: RuntimeSpec, setting: Setting, num_test: int
) -> None:
    root = images(
        tmp_path, "train/a/1.png", "train/b/2.png", "train/3.png", "test/a/4.png", "val/b/5.png"
    )
    more: dict[str, Any] = {"split_folders": setting, "labels": "folders"}
    ref, task = opened(root, memory, allow_partial_labels=True, **more)
    splits = {Path(row["uri"]).stem: row["split"] for row in rows_of(ref)}
    assert splits == {n: "pool" if n in "123" or not num_test else "test" for n in "12345"}
    assert (ref.num_pool, ref.num_test) == (5 - num_test, num_test)
    labels = {Path(uri).stem: label for uri, label in labels_of(ref, task).items()}
    assert labels == {"1": "a", "2": "b", "3": None, "4": "a", "5": "b"}


def test_rows_of_parquet_are_held_out_by_the_name_of_their_file(
    tmp_path: Path, memory: RuntimeSpec
) -> None:
    for number, name in enumerate(("train-0", "test-0")):
        table = pa.table({"image": [encoded_image(number)]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    ref, _ = opened(tmp_path, memory)
    assert (ref.num_pool, ref.num_test) == (1, 1)
    table = pa.table({"image": [encoded_image(5)], "split": ["train"]})
    pq.write_table(table, tmp_path / "test-0.parquet")
    ref, _ = opened(tmp_path, memory)
    assert (ref.num_pool, ref.num_test) == (2, 0)


def test_words() -> None:
    assert [split_of(word) for word in ("train", "Val", "testing", "cat")] == [
        "pool", "test", "test", "pool",
    ]  # fmt: skip
