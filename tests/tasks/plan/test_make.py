"""What a run understood of images and classes, before anything is computed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.images.sources import list_source
from tasks.plan.facts import Aim, Plan
from tasks.plan.make import make_plan
from tasks.pool import true_labels
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.specs import BackboneSpec, CoftSpec, InputError, PoolSpec, RuntimeSpec
from tests.worlds.images import encoded_image
from tests.worlds.pools import tree

FILES = ("a/1.jpg", "a/2.JPG", "b/3.png", "b/4.jxl", "b/5.txt", "b/6")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tree(tmp_path / "images", dict.fromkeys(FILES, b"x"))


def spec(images: Path, **pool: Any) -> CoftSpec:
    return CoftSpec(
        pool=PoolSpec(images=str(images), **pool),
        runtime=RuntimeSpec(workspace=str(images.parent / "workspace")),
    )


def planned(images: Path, aim: Aim = "embed", **pool: Any) -> Plan:
    return make_plan(spec(images, **pool), aim)


def rows(path: Path, splits: list[str | None] | None) -> Path:
    columns: dict[str, Any] = {"image": [b"x"] * 6}
    if splits is not None:
        columns["split"] = pa.array(splits, pa.string()).dictionary_encode()
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path.parent


# --- images ---------------------------------------------------------------------------------------


def test_images_are_counted_by_extension_and_others_too(images: Path) -> None:
    found = planned(images).images
    assert found.by_split == {"pool": {".jpg": 2, ".png": 1}}
    assert found.skipped == {".jxl": 1, ".txt": 1, "": 1}
    assert found.readers == {".jxl": "pillow-jxl-plugin"}
    assert found.number == 3


def test_images_for_testing_are_counted_apart(images: Path, tmp_path: Path) -> None:
    test = tree(tmp_path / "test", {"7.bmp": b"x", "8.jxl": b"x"})
    found = planned(images, "adapt", test=str(test), classes="a,b").images
    assert found.by_split == {"pool": {".jpg": 2, ".png": 1}, "test": {".bmp": 1}}
    assert found.skipped[".jxl"] == 2


def test_rows_are_counted_by_their_column_split(tmp_path: Path) -> None:
    folder = rows(tmp_path / "rows" / "1.parquet", ["test", " TEST ", "train", None, "tests", ""])
    rows(folder / "2.parquet", None)
    assert planned(folder).images.by_split == {"pool": {".parquet": 10}, "test": {".parquet": 2}}
    assert planned(folder).images.num_tables == 2
    test = planned(folder, "adapt", test=str(folder), classes="a,b").images.by_split
    assert test == {"pool": {".parquet": 10}, "test": {".parquet": 14}}, "of --test all are"


def test_the_counts_are_those_of_the_run(tmp_path: Path, memory: RuntimeSpec) -> None:
    table = {"image": [encoded_image(n) for n in range(5)], "split": ["test", "pool", *"abc"]}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    asked = spec(tmp_path / "rows.parquet", classes="a,b")
    plan = make_plan(asked, "adapt")
    ref = open_images.fn(asked.pool, memory)
    counts = {split: sum(own.values()) for split, own in plan.images.by_split.items()}
    assert counts == {"pool": ref.num_pool, "test": ref.num_test} == {"pool": 4, "test": 1}


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was listed, in the order of listing."""
    found: list[str] = []

    def listed(uri: str) -> Any:
        found.append(uri)
        return list_source(uri)

    monkeypatch.setattr(true_labels, "list_source", listed)
    return found


def test_a_run_lists_once_what_its_plan_has_listed(
    images: Path, memory: RuntimeSpec, listings: list[str]
) -> None:
    tree(images, {"good.png": encoded_image(1)})
    asked = spec(images, max_quarantined=1.0)
    make_plan(asked, "embed", hand_over=True)
    assert open_images.fn(asked.pool, memory, for_training=False).rows == 1
    assert len(listings) == 1
    tree(images, {"new.png": encoded_image(2)})
    assert open_images.fn(asked.pool, memory, for_training=False).rows == 2
    assert len(listings) == 2, "what was handed over is used once"


@pytest.mark.parametrize("before", ["new", "listed before"])
def test_a_task_lists_nothing_again(
    before: str, tmp_path: Path, memory: RuntimeSpec, listings: list[str]
) -> None:
    table = {"image": [encoded_image(n) for n in range(4)], "label": [*"abab"]}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    asked = spec(tmp_path / "rows.parquet", labels="column")
    if before == "listed before":
        open_images.fn(asked.pool, memory)
    listings.clear()
    make_plan(asked, "adapt", hand_over=True)
    task = open_task.fn(open_images.fn(asked.pool, memory), asked.pool, memory)
    assert (task.classes, task.rows) == (("a", "b"), 4)
    assert len(listings) == 1


def test_a_plan_of_another_aim_is_not_taken(images: Path, memory: RuntimeSpec) -> None:
    tree(images, {"good.png": encoded_image(1)})
    asked = spec(images, max_quarantined=1.0)
    make_plan(asked, "embed", hand_over=True)
    with pytest.raises(InputError, match="no class names"):
        open_images.fn(asked.pool, memory)


# --- classes, backbone, place ---------------------------------------------------------------------


def test_classes_are_what_the_run_will_learn(images: Path) -> None:
    plan = planned(images, "adapt", classes="one, two,three,four,five,six,seven")
    assert plan.classes is not None
    assert plan.classes.number == 7
    assert plan.classes.first == ("one", "two", "three", "four", "five")
    assert plan.classes.last == "seven"
    assert planned(images).classes is None, "who embeds has none"


def test_a_backbone_is_known_from_its_files(images: Path, tiny_clip: Path) -> None:
    asked = spec(images).model_copy(
        update={"backbone": BackboneSpec(name=f"local-dir:{tiny_clip}")}
    )
    found = make_plan(asked, "embed").backbone
    assert found is not None
    assert (found.kind, found.embed_dim) == ("vit", 32)
    with pytest.raises(InputError, match="no model 'photos'"):
        make_plan(asked, "predict", model="models:/photos/3")
    wrong = asked.model_copy(update={"backbone": BackboneSpec(name="ViT-B-61/openai")})
    with pytest.raises(InputError, match="is unknown"):
        make_plan(wrong, "embed")


def test_a_cluster_is_where_the_run_goes(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@prefect/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow")
    runtime = RuntimeSpec(workspace="memory://w", ray_address="head:6379", num_actors=3)
    asked = spec(images, classes="a,b").model_copy(update={"runtime": runtime})
    plan = make_plan(asked, "adapt")
    assert (plan.place.ray_address, plan.place.num_workers) == ("head:6379", 3)
    assert "secret" not in plan.model_dump_json()
    assert plan.place.prefect == "http://***@prefect/api"
    assert plan.results.tracking == "MLflow runs go to http://***@mlflow"
    assert make_plan(spec(images), "embed").place.ray_address is None


def test_nothing_is_written(images: Path) -> None:
    assert planned(images, "adapt", classes="a,b").results.is_new
    assert sorted(path.name for path in images.parent.iterdir()) == ["images"]


def test_more_workers_than_there_is_room_for_are_not_promised(images: Path) -> None:
    runtime = RuntimeSpec(workspace="memory://w", num_actors=10_000)
    place = make_plan(spec(images).model_copy(update={"runtime": runtime}), "embed").place
    assert place.num_workers == place.num_cores


def test_answers_of_a_file_are_counted(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("uri,label\na/1.jpg,cat\n./b/3.png,DOG\nnone.jpg,dog\na/2.JPG,puma\n")
    values = spec(images, classes="cat,dog").model_copy(update={"answers": str(file)})
    answers = make_plan(values, "adapt").answers
    assert answers is not None
    assert answers.matched == ("./b/3.png = b/3.png: DOG", "a/1.jpg: cat")
    assert (answers.unmatched, answers.unknown) == (("none.jpg: dog",), ("a/2.JPG: puma",))
    assert planned(images, "adapt", classes="cat,dog").answers is None
