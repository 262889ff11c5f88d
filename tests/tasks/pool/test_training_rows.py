"""What a labelling gives to training: in the order of the ids, and of too much a fair share."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.pool.training_rows import held_out_rows, training_rows, unlabeled_rows
from tasks.refs import ImagesRef, LabelsRef, Reason, TaskRef
from tasks.specs import InputError
from tasks.storage.manifest import iter_tables
from tasks.storage.schemas import LABELS
from tests.worlds.stages import COUNT, cut, stage, write_stages
from tests.worlds.stages import images as images_and_features

DIM = 4
World = tuple[ImagesRef, TaskRef, LabelsRef]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return images, and labels of them in other cuts: of blue few are kept; one is an answer."""
    (images, task), *_ = write_stages(tmp_path, 16, DIM)
    rows = []
    for number, row in enumerate(images_and_features(DIM)[0].to_pylist()):
        kept = row["label"] != "blue" or number % 6 == 2
        reason = Reason.KEPT if kept else Reason.HELD_OUT
        rows.append(
            {"image_id": row["image_id"], "label": row["label"], "kept": kept, "reason": reason}
        )
    rows[COUNT - 2] |= {"kept": True, "reason": Reason.ANSWERED}
    table = pa.Table.from_pylist(rows[:-1], LABELS)  # the last image is a copy
    kept = sum(row["kept"] for row in rows[:-1])
    uri = stage(tmp_path / "labels", cut(table, 9))
    return images, task, LabelsRef(uri=uri, digest="labels", source="peer-1", num_kept=kept)


def test_kept_labels_come_by_id_with_where_their_images_are(world: World) -> None:
    images, task, labels = world
    rows = training_rows(labels, images, task)
    assert rows.ids == sorted(rows.ids)
    assert rows.uris == [f"memory://{image}" for image in rows.ids]
    assert len(rows.labels) == len(rows.ids) == labels.num_kept
    assert rows.left_out == 0
    ids, uris = held_out_rows(labels, images)
    assert uris == [f"memory://{image}" for image in ids]
    assert not set(ids) & set(rows.ids)
    assert held_out_rows(labels, images, most=3) == (ids[:3], uris[:3])
    others, where = unlabeled_rows(labels, images)
    assert set(rows.ids) <= set(others)
    assert sorted([*others, *ids]) == sorted({*others, *ids})
    assert len(others) + len(ids) == sum(len(part) for part in iter_tables(labels.uri))
    assert unlabeled_rows(labels, images, most=3) == (others[:3], where[:3])


def test_of_too_many_each_class_gives_the_same_share(world: World) -> None:
    images, task, labels = world
    every = training_rows(labels, images, task)
    answered = every.ids[-1]
    most = labels.num_kept // 2
    half = training_rows(labels, images, task, most=most)
    counts = [Counter(rows.labels.tolist()) for rows in (every, half)]
    assert len(half.ids) <= most + 1, "the answer is beside them"
    assert half.left_out == labels.num_kept - len(half.ids)
    assert answered in half.ids
    for label, count in counts[0].items():
        assert abs(counts[1][label] - count / 2) <= 1.5
    assert half.ids == sorted(half.ids)
    assert set(half.ids) < set(every.ids)
    assert training_rows(labels, images, task, most=labels.num_kept).left_out == 0


def test_nothing_kept_is_a_sentence(world: World, tmp_path: Path) -> None:
    images, task, labels = world
    none = pa.Table.from_pylist([], LABELS)
    empty = labels.model_copy(update={"uri": stage(tmp_path / "none", [none])})
    with pytest.raises(InputError, match="nothing to learn from"):
        training_rows(empty, images, task)
