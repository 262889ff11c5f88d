"""Predictions are the classifier's own, and no image goes through one of its towers twice."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clipcore.classifier import load_classifier
from tasks.classifier import zero_shot_model
from tasks.label.zero_shot import label_zero_shot
from tasks.predict import predict_pool
from tasks.refs import ModelRef, PredictionsRef
from tasks.storage.layout import DESCRIPTION, ENERGIES
from tasks.storage.manifest import iter_tables
from tasks.storage.schemas import PREDICTIONS
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.embedding import Embedding
from tests.worlds.images import encoded_image
from tests.worlds.pools import opened, tree


def put(place: Embedding, *numbers: int) -> None:
    tree(place.root, {f"{number:02}.png": encoded_image(number) for number in numbers})


def rows_of(predictions: PredictionsRef) -> pa.Table:
    return pa.concat_tables(iter_tables(predictions.uri))


def test_rows_say_what_the_classifier_says(place: Embedding, tmp_path: Path) -> None:
    folder = save_tiny_classifier(tmp_path / "model")
    put(place, *range(11))
    tree(place.root, {"broken.png": encoded_image(77, (64, 64))[:-40]})
    predictions = predict_pool.fn(
        ModelRef(uri=str(folder), digest="m"), place.images(), place.spec()
    )
    table, classifier = rows_of(predictions), load_classifier(folder)
    assert table.schema.equals(PREDICTIONS)
    assert (predictions.rows, table.num_rows, predictions.num_quarantined) == (11, 11, 1)
    data = [Path(uri).read_bytes() for uri in table["uri"].to_pylist()]
    expected = classifier.predict_bytes(data)
    np.testing.assert_allclose(np.stack(table["probabilities"].to_pylist()), expected, atol=1e-6)
    names = np.array(classifier.classes)
    assert table["label"].to_pylist() == names[expected.argmax(axis=1)].tolist()
    ranked, rows = np.argsort(-expected, axis=1), np.arange(len(expected))
    for name, rank in (("confidence", 0), ("runner_up_confidence", 1)):
        chosen = expected[rows, ranked[:, rank]]
        np.testing.assert_allclose(table[name].to_numpy(), chosen, atol=1e-6)
    assert table["runner_up"].to_pylist() == names[ranked[:, 1]].tolist()
    assert [len(members) for members in table["member_labels"].to_pylist()] == [2] * 11


def test_of_images_that_were_predicted_before_only_new_ones_are_seen(
    place: Embedding, tmp_path: Path
) -> None:
    model = ModelRef(uri=str(save_tiny_classifier(tmp_path / "model")), digest="m")
    put(place, *range(20))
    first = predict_pool.fn(model, place.images(), place.spec())
    assert (place.count(), len(place.decoded)) == (2 * 20, 20)
    put(place, *range(20, 25))
    second = predict_pool.fn(model, place.images(), place.spec())
    assert (place.count(), len(place.decoded)) == (2 * 5, 25)
    assert (first.rows, second.rows) == (20, 25)
    before = {row["image_id"]: row for row in rows_of(first).to_pylist()}
    after = {row["image_id"]: row for row in rows_of(second).to_pylist()}
    numbers = ("confidence", "runner_up_confidence", "probabilities")
    for image, row in before.items():  # a product of other rows may round otherwise
        del row["none_of_these"], after[image]["none_of_these"]  # compared with all these images
        assert after[image] == {**row, **{n: pytest.approx(row[n]) for n in numbers}}
    assert predict_pool.fn(model, place.images(), place.spec()).resumed


def test_without_a_record_of_a_pool_the_images_are_compared_with_themselves(
    place: Embedding, tmp_path: Path
) -> None:
    put(place, *range(40))
    model = ModelRef(uri=str(save_tiny_classifier(tmp_path / "model")), digest="m")
    predictions = predict_pool.fn(model, place.images(), place.spec())
    shares = rows_of(predictions)["none_of_these"].to_numpy()
    np.testing.assert_allclose(np.sort(shares), np.linspace(0, 1, 40), atol=0.02)
    assert predictions.compared_with.startswith("these images themselves")


def test_images_are_compared_with_the_pool_of_the_model(place: Embedding, tmp_path: Path) -> None:
    put(place, *range(9))
    folder = save_tiny_classifier(tmp_path / "model")
    description = json.loads((folder / DESCRIPTION).read_text())
    for energies, share in (([-1e3, -9e2], 0), ([9e2, 1e3], 1)):
        description["facts"][ENERGIES] = energies
        (folder / DESCRIPTION).write_text(json.dumps(description))
        model = ModelRef(uri=str(folder), digest=f"m{share}")
        predictions = predict_pool.fn(model, place.images(), place.spec())
        assert set(rows_of(predictions)["none_of_these"].to_pylist()) == {share}
        assert predictions.compared_with.startswith("images of the model's own pool")


def test_zero_shot_as_a_classifier_sees_no_image_again(place: Embedding) -> None:
    put(place, *range(9))
    images, task = opened(place.root, place.spec().runtime, rows_per_shard=8)
    embeddings = place.embed(images)
    assert place.count() == 9
    spec = place.spec()
    labels = label_zero_shot.fn(embeddings, images, task, place.backbone, spec)
    model = zero_shot_model.fn(labels, task, place.backbone, spec)
    predictions = predict_pool.fn(model, images, spec)
    assert place.count() == 0
    said = pa.concat_tables(iter_tables(labels.uri))
    assert rows_of(predictions)["label"].to_pylist() == said["label"].to_pylist()
