"""Modalities one after another, end to end: Parquet and images, again, interrupted, refused."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from clipcore.harmony.comparison import METHODS
from flows.coft import coft
from flows.harmony import compare_methods, learn
from tasks.harmony.compare import lines_of
from tasks.harmony.record import StageRef, StateRef, read_accuracy, read_state
from tasks.harmony.specs import CompareSpec, PredictedSpec, StageSpec, StageTrainingSpec
from tasks.harmony.summary import summarize
from tasks.specs import BackboneSpec, CoftSpec, InputError, PoolSpec, RuntimeSpec
from tasks.tracking.store import connect, tracking_for
from tests.worlds.feature_files import CLASSES, TRAIN, WIDTHS, rows_of, write_rows
from tests.worlds.images import COLOURS, PER_CLASS, write_images

TRAINING = StageTrainingSpec(steps=60, batch_size=16, learning_rate=5e-3)

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def spec_of(folder: Path, clip: Path, modality: str, **changes: Any) -> StageSpec:
    usual: dict[str, Any] = {
        "state": str(folder / "state"),
        "modality": modality,
        "embeddings": str(folder / f"{modality}.parquet"),
        "training": TRAINING,
        "backbone": BackboneSpec(name=f"local-dir:{clip}"),
        "runtime": RuntimeSpec(workspace=str(folder / "workspace")),
    }
    return StageSpec.model_validate({**usual, **changes})


def matrix_of(stages: list[StageRef]) -> tuple[tuple[float | None, ...], ...]:
    return summarize(StateRef(uri="", stages=tuple(stages))).matrix


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: None,
) -> tuple[Path, list[StageRef]]:
    """Learn photos and sounds, whose training rows are removed before the next stage."""
    folder, stages = tmp_path_factory.mktemp("harmony"), []
    tables = {name: rows_of(name) for name in ("photo", "sound")}
    kept = write_rows(folder / "kept.parquet", *(one.slice(TRAIN) for one in tables.values()))
    for name, table in tables.items():
        file = Path(write_rows(folder / f"{name}.parquet", table.slice(0, TRAIN)))
        stages.append(learn(spec_of(folder, tiny_clip, name, tests=(kept,))))
        file.rename(folder / f"{name}.gone")
    return folder, stages


def test_a_later_stage_needs_nothing_of_an_earlier_one(
    learned: tuple[Path, list[StageRef]],
) -> None:
    _, stages = learned
    (first, none), (kept, second) = matrix_of(stages)
    assert none is None
    assert min(first or 0, kept or 0, second or 0) > 0.75
    assert read_accuracy(stages[1])["sound"].guessed == second  # its width tells it


def test_no_file_of_a_state_has_a_row_for_each_sample(
    learned: tuple[Path, list[StageRef]],
) -> None:
    _, stages = learned
    names = {path.name for path in Path(stages[1].uri).iterdir()}
    assert names == {"weights.safetensors", "manifest.json", "accuracy.json"}
    with safe_open(f"{stages[1].uri}/weights.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    assert not [shape for shape in shapes if TRAIN in shape]


def test_mlflow_has_a_run_of_each_stage(learned: tuple[Path, list[StageRef]]) -> None:
    folder, stages = learned
    client = connect(tracking_for(str(folder / "workspace")))
    experiment = client.get_experiment_by_name("coft")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {"harmony-state-photo", "harmony-state-sound"} <= set(runs)
    run = runs["harmony-state-sound"]
    matrix = matrix_of(stages)
    assert run.data.metrics["accuracy/photo"] == pytest.approx(matrix[1][0])
    assert run.data.metrics["forgetting"] == pytest.approx(max(0, matrix[0][0] - matrix[1][0]))  # type: ignore[operator]
    assert run.info.status == "FINISHED"
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == [
        "accuracy.svg",
        "report.html",
    ]


def test_the_same_again_is_found_and_an_interrupted_stage_is_learned_as_it_would_have_been(
    learned: tuple[Path, list[StageRef]], tmp_path: Path, tiny_clip: Path
) -> None:
    write_rows(tmp_path / "photo.parquet", rows_of("photo"))
    spec = spec_of(tmp_path, tiny_clip, "photo")
    one = learn(spec)
    weights = Path(one.uri, "weights.safetensors").read_bytes()
    assert learn(spec).resumed
    Path(one.uri, "manifest.json").unlink()  # as a stage that was killed leaves it
    Path(one.uri, "weights.safetensors").write_bytes(b"half")
    two = learn(spec)
    assert not two.resumed
    assert Path(two.uri, "weights.safetensors").read_bytes() == weights
    assert read_state(spec.state).modalities == ("photo",)


def test_what_does_not_fit_is_refused_and_changes_nothing(
    learned: tuple[Path, list[StageRef]], tmp_path: Path, tiny_clip: Path
) -> None:
    folder, _ = learned
    before = {path: path.stat().st_mtime_ns for path in (folder / "state").rglob("*")}
    count = rows_of("photo").num_rows
    cases = {
        "sound was learned already, as stage 2": ("sound", rows_of("sound", seed=1)),
        "photo was learned from 12 features a sample, these have 2": (
            "Photo",
            rows_of("photo", modality=["Photo"] * count, embedding=[[1.0, 2.0]] * count),
        ),
        "labels outside of the 3 classes: 'cow'": (
            "sketch",
            rows_of("sketch", label=["cow"] * count),
        ),
    }
    for number, (expected, (name, table)) in enumerate(cases.items()):
        file = write_rows(tmp_path / f"{number}.parquet", table)
        with pytest.raises(InputError, match=expected):
            learn(spec_of(folder, tiny_clip, name, embeddings=file))
    assert {path: path.stat().st_mtime_ns for path in (folder / "state").rglob("*")} == before


def test_images_are_a_modality_and_further_classes_may_come(
    tmp_path: Path, tiny_clip: Path
) -> None:
    images = write_images(tmp_path)
    pool = PoolSpec(images=str(images), labels="column", rows_per_shard=16)
    first = learn(spec_of(tmp_path, tiny_clip, "photo", embeddings=None, pool=pool))
    assert (first.record.kind, first.record.width) == ("images", 32)
    assert first.record.seen == dict.fromkeys(sorted(COLOURS), PER_CLASS * 3 // 4)
    own = read_accuracy(first)["photo"]
    assert own.count == len(COLOURS) * PER_CLASS // 4
    write_rows(tmp_path / "sound.parquet", rows_of("sound"))
    tests = (f"photo={images}",)
    second = learn(
        spec_of(tmp_path, tiny_clip, "sound", backbone=None, classes="cat,dog,car", tests=tests)
    )
    assert second.record.classes == (*sorted(COLOURS), *CLASSES)
    assert set(second.record.seen) == set(CLASSES)
    assert read_accuracy(second)["photo"].count == own.count
    assert read_accuracy(second)["sound"].accuracy > 0.75


def test_a_model_that_knows_a_look_labels_it(tmp_path: Path, tiny_clip: Path) -> None:
    images = write_images(tmp_path)
    pool = PoolSpec(images=str(images), labels="column", rows_per_shard=16)
    runtime, backbone = (
        RuntimeSpec(workspace=str(tmp_path / "workspace")),
        BackboneSpec(name=f"local-dir:{tiny_clip}"),
    )
    model = coft(
        CoftSpec(pool=pool, backbone=backbone, method="zero-shot", runtime=runtime, register_as="c")
    )
    (folder,) = (tmp_path / "workspace" / "predictions").iterdir()
    said = pq.read_table(sorted(folder.glob("*.parquet")), columns=["split", "confidence"])
    sure = sorted(said.filter(pc.equal(said["split"], "pool"))["confidence"].to_pylist())[20]
    unlabelled = pool.model_copy(update={"labels": None})
    spec = spec_of(
        tmp_path,
        tiny_clip,
        "photo",
        embeddings=None,
        pool=unlabelled,
        predicted=PredictedSpec(model=model.model_uri or "", min_confidence=sure),
        tests=(f"photo={images}",),
    )
    stage = learn(spec)
    assert stage.record.num_train == sum(stage.record.seen.values()) == 25
    assert stage.record.left_out == {"no label": 20}
    assert stage.record.classes == tuple(sorted(COLOURS))  # of the model, seen or not
    assert read_accuracy(stage)["photo"].count == len(COLOURS) * 5
    surer = spec.model_copy(
        update={"predicted": PredictedSpec(model="models:/c/1", min_confidence=1)}
    )
    with pytest.raises(InputError, match="is sure of none of the 45 images"):
        learn(surer)


def test_methods_are_compared_on_data_that_is_kept(
    learned: tuple[Path, list[StageRef]], tmp_path: Path
) -> None:
    folder, _ = learned
    file = write_rows(tmp_path / "all.parquet", rows_of("photo"), rows_of("sound"))
    spec = CompareSpec(
        state=str(folder / "state"),
        data=file,
        methods=("adapters", "separate"),
        orders=2,
        runtime=RuntimeSpec(workspace=str(folder / "workspace")),
    )
    found = compare_methods(spec)
    trials = list((folder / "state" / "comparison").iterdir())
    assert compare_methods(spec) == found
    assert len(trials) == 4
    assert found.orders == 2
    adapters, separate = found.methods
    assert (adapters.forgetting, separate.forgetting) == (0.0, None)
    assert separate.keeps == METHODS["separate"].keeps
    assert set(separate.modalities) == {"photo", "sound"} == set(WIDTHS) - {"sketch"}
    assert lines_of(found)[0].startswith("method")
