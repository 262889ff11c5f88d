"""Which version serves: promoted, rolled back, downloaded."""

from pathlib import Path

import pytest

from clipcore.classifier import load_classifier
from tasks.specs import InputError
from tasks.tracking.champion import UnhealthyModel, download_bundle, promote, rollback
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run
from tasks.tracking.versions import list_models
from tests.worlds.classifier import CLASSES, save_tiny_classifier
from tests.worlds.images import encoded_image

pytestmark = pytest.mark.slow  # MLflow takes seconds for each version


def test_an_unhealthy_model_is_registered_but_no_candidate(run: Run, bundle: Path) -> None:
    evidence = {"verdict": "peers agree on 41 % of the images only"}
    model = register_model(run, bundle, name="pets", healthy=False, evidence=evidence)
    assert model.aliases == ()
    with pytest.raises(InputError, match="no candidate; name a version, one of 1"):
        promote(run.tracking, "pets")
    with pytest.raises(UnhealthyModel, match=r"may not become champion.*41 %"):
        promote(run.tracking, "pets", "1")
    assert promote(run.tracking, "pets", "1", force=True).aliases == ("champion",)


def test_promote_keeps_the_former_champion_and_rollback_returns_to_it(
    run: Run, bundle: Path
) -> None:
    def aliases() -> dict[str, tuple[str, ...]]:
        return {model.version: model.aliases for model in list_models(run.tracking, "pets")}

    register_model(run, bundle, name="pets", healthy=True, evidence={})
    promote(run.tracking, "pets")
    assert aliases() == {"1": ("champion",)}
    other = save_tiny_classifier(bundle.parent / "other", seed=1)
    register_model(run, other, name="pets", healthy=True, evidence={})
    assert aliases() == {"2": ("candidate",), "1": ("champion",)}

    assert promote(run.tracking, "pets").version == "2"
    assert aliases() == {"2": ("champion",), "1": ("previous",)}
    assert promote(run.tracking, "pets", "2").version == "2"  # again: nothing changes
    register_model(run, other, name="pets", healthy=True, evidence={})  # a flow that resumes
    assert aliases() == {"2": ("champion",), "1": ("previous",)}

    assert rollback(run.tracking, "pets").version == "1"
    assert aliases() == {"2": (), "1": ("champion",)}
    with pytest.raises(InputError, match="no previous champion"):
        rollback(run.tracking, "pets")
    rolled_back = list_models(run.tracking, "pets")[0]
    assert {"promoted", "rolled_back"} <= set(rolled_back.evidence)


def test_download_gives_the_bundle_that_was_registered(run: Run, bundle: Path) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    folder = download_bundle(run.tracking, "models:/pets@candidate")
    images = [encoded_image(1), encoded_image(2)]
    classifier = load_classifier(folder)
    assert classifier.classes == CLASSES
    expected = load_classifier(bundle).predict_bytes(images)
    assert (classifier.predict_bytes(images) == expected).all()
    assert download_bundle(run.tracking, "models:/pets/1") == folder


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/cats@champion", "no model 'cats' in the registry, which has pets"),
        ("models:/pets@champion", "'pets' has no champion, only candidate"),
        ("models:/pets/7", "'pets' has no version '7', only 1"),
        ("runs:/abc/model", "expected models:/NAME@ALIAS"),
        ("models:/o'brien/1", "expected a model name of at most"),
    ],
)
def test_a_model_that_is_not_there_is_explained(
    run: Run, bundle: Path, uri: str, message: str
) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    with pytest.raises(InputError, match=message):
        download_bundle(run.tracking, uri)


def test_a_model_that_points_out_of_its_folder_is_refused(
    run: Run, bundle: Path, workspace: Path
) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    (description,) = workspace.rglob("MLmodel")
    text = description.read_text()
    assert text.count("path: artifacts/0123456789abcdef") == 1
    description.write_text(text.replace("path: artifacts/0123456789abcdef", "path: ../../.."))
    with pytest.raises(InputError, match="not a classifier of coft"):
        download_bundle(run.tracking, "models:/pets/1")
