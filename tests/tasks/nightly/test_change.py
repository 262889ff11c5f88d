"""What is new since the last adaptation, and how strange it is."""

from pathlib import Path

import numpy as np
import pytest

from tasks.nightly.change import NUM_DRAWN, last_images, measure_change, remember
from tasks.nightly.specs import NightlySpec
from tasks.refs import EmbeddingsRef, ImagesRef, PredictionsRef
from tasks.specs import InputError
from tests.worlds.workspace import image_id, write_embeddings, write_pool, write_predictions

OLD, NEW, DIM = 300, 40, 8


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


def spec_of(place: str, **changes: object) -> NightlySpec:
    run = {"pool": {"images": "photos"}, "register_as": "pets", "runtime": {"workspace": place}}
    return NightlySpec.model_validate({"adapt": run, **changes})


def vectors_of(count: int, strange: int) -> np.ndarray:
    """Return directions near one of two axes, and at the end some along a third one."""
    noise = np.random.default_rng(0).normal(size=(count, DIM)) * 0.05
    for row in range(count):
        noise[row, 2 if row >= count - strange else row % 2] += 1.0
    return (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)


def images_of(place: str, digest: str, count: int) -> ImagesRef:
    write_pool(place, digest * 16, list(range(count)))
    return ImagesRef(
        uri=f"{place}/pool/{digest * 16}",
        digest=digest,
        num_pool=count,
        num_test=0,
        num_duplicates=1,
        num_quarantined=1,
    )


def stages_of(place: str, count: int, strange: int) -> tuple[EmbeddingsRef, PredictionsRef]:
    order = sorted(range(count), key=image_id)
    ids, vectors = [image_id(number) for number in order], vectors_of(count, strange)[order]
    write_embeddings(place, "e" * 16, ids, vectors)
    names = [("cat", "dog")[number % 2] for number in order]
    rows = [
        {"label": name, "confidence": 0.9, "probabilities": [1.0], "member_labels": [name]}
        for name in names
    ]
    write_predictions(place, "f" * 16, ids, rows)
    run = next(Path(f"{place}/embeddings/{'e' * 16}/runs").iterdir())
    embeddings = EmbeddingsRef(
        uri=f"{place}/embeddings/{'e' * 16}", run=str(run), digest="e", dim=DIM, model="embedded"
    )
    return embeddings, PredictionsRef(uri=f"{place}/predictions/{'f' * 16}", digest="f")


def test_the_first_night_is_always_enough(place: str) -> None:
    images = images_of(place, "a", 20)
    embeddings, _ = stages_of(place, 20, 0)
    change = measure_change.fn(images, embeddings, None, spec_of(place))
    assert (change.first, change.num_new, change.enough) == (True, 20, True)
    with pytest.raises(InputError, match="register_as"):
        last_images(spec_of(place, adapt={"pool": {"images": "photos"}}))


@pytest.mark.parametrize("strange", [0, 10])
def test_drift_is_the_share_of_new_images_that_are_like_no_class(place: str, strange: int) -> None:
    spec = spec_of(place, min_new=NEW + 1)
    remember(images_of(place, "a", OLD), spec)
    images = images_of(place, "b", OLD + NEW)
    embeddings, predictions = stages_of(place, OLD + NEW, strange)
    change = measure_change.fn(images, embeddings, predictions, spec)
    assert (change.first, change.num_new) == (False, NEW)
    assert sum(change.by_class.values()) == NEW
    assert change.drift is not None
    assert change.drift == pytest.approx(strange / NEW, abs=0.06)
    assert change.enough is (strange > 0), change.text
    named = {int(Path(one.uri).stem) for one in change.foreign}
    assert set(range(OLD + NEW - strange, OLD + NEW)) <= named
    drawn = {int(Path(one.uri).stem) for one in change.drawn}
    assert drawn <= set(range(OLD, OLD + NEW))
    assert len(drawn) == NUM_DRAWN
    assert [one.cosine for one in change.foreign] == sorted(one.cosine for one in change.foreign)


def test_many_new_images_are_enough_and_none_are_not(place: str) -> None:
    spec = spec_of(place, min_new=NEW)
    old = images_of(place, "a", OLD)
    remember(old, spec)
    embeddings, predictions = stages_of(place, OLD + NEW, 0)
    again = measure_change.fn(old, embeddings, predictions, spec)
    assert (again.num_new, again.enough, again.drift) == (0, False, None)
    images = images_of(place, "b", OLD + NEW)
    assert measure_change.fn(images, embeddings, None, spec).enough
