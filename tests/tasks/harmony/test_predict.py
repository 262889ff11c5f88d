"""A row for each sample, with the modality that it was taken for; nothing is computed twice."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clipcore.harmony.state import Prediction
from clipcore.harmony.state import predict as predict_of
from tasks.harmony import predict as prediction
from tasks.harmony.known import KnownState
from tasks.harmony.learn import load_state
from tasks.harmony.predict import (
    IMAGES,
    SAMPLES,
    AnswersRef,
    Taken,
    embed_images,
    predict_images,
    predict_samples,
)
from tasks.harmony.register import write_model
from tasks.harmony.specs import PredictSpec
from tasks.pool.shards import shards
from tasks.specs import InputError, PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tests.worlds.embedding import Embedding, tasks_here
from tests.worlds.feature_files import write_rows
from tests.worlds.images import encoded_image
from tests.worlds.learned_state import write_state
from tests.worlds.modal_model import sounds
from tests.worlds.modalities import CLASSES
from tests.worlds.pools import tree


@pytest.fixture
def known(place: Embedding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownState:
    monkeypatch.setattr(prediction, "run_tasks", tasks_here)
    return KnownState.of_stages(write_state(tmp_path / "state", place.backbone))


def spec_of(place: Embedding, **changes: Any) -> PredictSpec:
    return PredictSpec(runtime=RuntimeSpec(workspace=place.workspace), **changes)


def rows_of(answers: AnswersRef) -> list[dict[str, Any]]:
    return [row for table in iter_tables(answers.uri) for row in table.to_pylist()]


def check(rows: list[dict[str, Any]], said: Prediction) -> None:
    assert len(rows) == len(said.probabilities)
    for row, probabilities in zip(rows, said.probabilities, strict=True):
        order = [CLASSES[place] for place in probabilities.argsort(descending=True).tolist()]
        assert row["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert [row["label"], row["runner_up"]] == order[:2]
        assert row["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-5)


def features(*vectors: Any, **columns: Any) -> pa.Table:
    lists = pa.array([vector.tolist() for vector in vectors], pa.list_(pa.float32()))
    return pa.table({"embedding": lists, **columns})


def test_rows_of_any_modality_are_answered_in_their_order(
    place: Embedding, known: KnownState, tmp_path: Path
) -> None:
    state, heard = load_state(known.uri), sounds(4)
    photo = state.modality("photo").likeness.mean.float()[None]
    said = pa.array([None, "photo", "Sound"], pa.string())
    tables = [
        features(heard[0], photo[0], heard[1], modality=said),
        features(heard[2], heard[3], modality=said.slice(0, 1).take([0, 0])),
    ]
    file = write_rows(tmp_path / "mixed.parquet", *tables)
    spec = spec_of(place, embeddings=file)
    answers = predict_samples.fn(known, spec)
    rows = rows_of(answers)
    schema = pq.read_schema(next(Path(answers.uri).glob("part-*")))
    assert schema.equals(SAMPLES)
    assert json.loads(schema.metadata[b"classes"]) == list(CLASSES)
    assert [row["sample_id"] for row in rows] == [f"mixed.parquet:{row}" for row in range(5)]
    assert [row["modality"] for row in rows] == ["sound", "photo", "sound", "sound", "sound"]
    check([rows[place] for place in (0, 2, 3, 4)], predict_of(state, heard, "sound"))
    check([rows[1]], predict_of(state, photo, "photo"))
    assert answers.taken == (
        Taken(modality="photo", count=1, certainty=1),
        Taken(modality="sound", count=4, certainty=1),
    )


def test_finished_parts_are_not_written_again_and_a_bad_row_costs_no_other_part(
    place: Embedding, known: KnownState, tmp_path: Path
) -> None:
    bad = sounds(1)[0].clone()
    bad[3] = float("nan")
    file = write_rows(tmp_path / "a.parquet", features(sounds(1)[0]), features(bad))
    spec = spec_of(place, embeddings=file)
    for _ in range(2):
        with pytest.raises(InputError, match=r"sample 'a.parquet:1' has features that are no fin"):
            predict_samples.fn(known, spec)
    (part,) = Path(place.workspace, "modalities").rglob("part-*")
    before = part.stat().st_mtime_ns
    with pytest.raises(InputError):
        predict_samples.fn(known, spec)
    assert part.stat().st_mtime_ns == before


def test_images_are_seen_by_the_tower_of_their_modality_or_of_the_model(
    place: Embedding, known: KnownState, tmp_path: Path
) -> None:
    tree(place.root, {f"{number}.png": encoded_image(number) for number in range(5)})
    images = place.images()
    pool = PoolSpec(images=str(place.root), rows_per_shard=8)
    spec = spec_of(place, pool=pool)
    seen = embed_images.fn(known, images, spec)
    answers = predict_images.fn(known, images, seen, spec)
    rows = rows_of(answers)
    schema = pq.read_schema(next(Path(answers.uri).glob("part-*")))
    assert schema.equals(IMAGES)
    assert json.loads(schema.metadata[b"classes"]) == list(CLASSES)
    vectors = torch.cat([shard.features()[1] for shard in shards(images, seen)])
    check(rows, predict_of(load_state(known.uri), vectors, "photo"))
    assert answers.taken == (Taken(modality="photo", count=5, certainty=1),)
    assert {Path(row["uri"]).name for row in rows} == {f"{number}.png" for number in range(5)}
    assert predict_images.fn(known, images, seen, spec).resumed

    place.count()
    model = tmp_path / "model"
    write_model(str(model), write_state(tmp_path / "state", place.backbone).stages, {})
    of_model = KnownState.of_folder(str(model), "m")
    assert embed_images.fn(of_model, images, spec).digest == seen.digest
    assert place.count() == 0, "its tower is the backbone's, which has seen them"
    tree(place.root, {"5.png": encoded_image(5)})
    more = embed_images.fn(of_model, place.images(), spec)
    assert (more.rows, place.count()) == (6, 1)
