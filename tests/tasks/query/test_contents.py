"""Which pool and which of its stages a query reads."""

from pathlib import Path

import pytest

from tasks.query.questions import similar
from tasks.query.sandbox import run_sql
from tasks.specs import InputError
from tasks.storage.uris import join
from tests.worlds import workspace as made
from tests.worlds.workspace import value


@pytest.fixture
def two_pools(tmp_path: Path) -> str:
    uri = str(tmp_path)
    for digest, first in (("1" * 16, 0), ("2" * 16, 100)):
        ids = made.write_pool(uri, digest, list(range(first, first + 16)))
        made.write_embeddings(uri, f"e{digest}", ids, made.unit_vectors(16, 4 + first // 50))
        made.write_labels(uri, f"a{digest}", "zero-shot", ids, ["cat"] * 16)
    made.age(join(uri, "pool", "1" * 16), 100)
    return uri


def test_the_newest_pool_is_shown_and_another_can_be_named(two_pools: str) -> None:
    count = "select count(*), min(digest), (select count(*) from labels) from images"
    newest = run_sql(two_pools, count).to_pydict()
    assert [column[0] for column in newest.values()] == [17, "2" * 16, 16]
    assert value(two_pools, "select min(digest) from images", pool="1") == "1" * 16
    assert value(two_pools, "select typeof(embedding) from embeddings limit 1") == "FLOAT[6]"
    kind = "select typeof(embedding) from embeddings limit 1"
    assert value(two_pools, kind, pool="1") == "FLOAT[4]"  # never mixed
    with pytest.raises(InputError, match="--pool 9: none begins like this; there are: 2222"):
        run_sql(two_pools, "from images", pool="9")


def test_labels_are_of_the_newest_classes_and_others_can_be_named(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    made.write_labels(uri, "0" * 16, "zero-shot", ids, ["cat"] * 16)
    others = ["zebra", "horse"]
    made.write_labels(uri, "1" * 16, "zero-shot", ids, ["zebra"] * 16, classes=others)  # newer
    newest = "select distinct digest from labels"
    assert value(uri, newest) == "0" * 16
    made.write_task(uri, "z" * 16, ids, ["horse"] * 16, others)
    assert value(uri, newest) == "1" * 16
    assert value(uri, "select distinct label from images") == "horse"
    first = f"t{'p' * 15}"
    assert value(uri, newest, pool=first) == "0" * 16
    assert value(uri, "select count(distinct label) from images", pool=first) == 3


def test_of_a_store_only_the_chosen_images_are_shown(tmp_path: Path) -> None:
    uri = str(tmp_path)
    every = [made.image_id(number) for number in range(20)]
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    vectors = made.unit_vectors(20, 4)
    made.write_embeddings(uri, "e" * 16, every, vectors, images=ids)
    assert value(uri, "select count(*) from embeddings") == 16
    assert value(uri, "select count(distinct image_id) from embeddings") == 16
    found = similar(uri, ids[0], 20)
    assert sorted(found["image_id"].to_pylist()) == ids[1:]


def test_embeddings_of_the_backbone_come_before_those_of_its_peers(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    content = made.content_of(ids)
    for age, digest, learned in ((30, "old", ""), (20, "own", ""), (10, "peer", "some")):
        made.write_embeddings(uri, digest, ids, made.unit_vectors(16, 4), learned=learned)
        made.age(join(uri, "embeddings", digest, "runs", content), age)
    assert value(uri, "select distinct digest from embeddings") == "own"
    other = value(uri, "select distinct digest from embeddings", embeddings="peer")
    assert other == "peer"


def test_no_and_empty_workspaces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a workspace, found nothing"):
        run_sql(str(tmp_path / "none"), "select 1")
    with pytest.raises(InputError, match="holds no images yet; run `coft adapt`"):
        run_sql(str(tmp_path), "select 1")
    assert not (tmp_path / "none").exists()
