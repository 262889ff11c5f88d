"""The main job by methods of the arena, on drawn images and a tiny CLIP."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from clipcore.classifier import load_classifier
from flows.adapt import adapt
from tasks.backbone import describe, load_backbone
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    GateSpec,
    InputError,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
)
from tasks.storage.layout import ENERGIES, TOWERS
from tasks.weights import tower_digest
from tests.worlds.images import COLOURS, write_images
from tests.worlds.rounds import write_answers
from tests.worlds.tensors import random_pixels

pytestmark = pytest.mark.usefixtures("prefect_session", "ray_session")


def spec_of(folder: Path, clip: Path, method: str, **more: object) -> CoftSpec:
    values: dict[str, object] = {
        "pool": PoolSpec(images=str(write_images(folder)), labels="column", rows_per_shard=16),
        "backbone": BackboneSpec(name=f"local-dir:{clip}"),
        "runtime": RuntimeSpec(workspace=str(folder / "workspace")),
        "gate": GateSpec(max_drift=1, max_lost_classes=3),
        "method": method,
        "register_as": "colours",
        **more,
    }
    return CoftSpec.model_validate(values)


def answers_of(folder: Path) -> str:
    """Return a file with the labels of the first six images of the pool."""
    rows = pq.read_table(write_images(folder)).to_pylist()
    pool = [row for row in rows if row["split"] == "pool"][:6]
    answers = {hashlib.sha256(row["image"]).hexdigest(): row["label"] for row in pool}
    return write_answers(folder / "answers.csv", answers)


@pytest.mark.parametrize("method", ["fast", "lp-gda"])
def test_a_method_without_labels_becomes_a_model_that_is_served(
    method: str, tmp_path: Path, tiny_clip: Path
) -> None:
    summary = adapt(spec_of(tmp_path, tiny_clip, method))
    assert summary.method == method
    assert summary.model_version == "1"
    assert summary.accuracy is not None
    (model,) = (tmp_path / "workspace" / "models").iterdir()
    served = load_classifier(model)
    assert set(served.classes) == set(COLOURS)
    assert served.facts["method"] == method
    assert (served.facts["distilled"] is None) == (method == "lp-gda")
    assert "CLIP adapted to images" in Path(summary.report).read_text()
    again = adapt(spec_of(tmp_path, tiny_clip, method))
    assert again.accuracy == summary.accuracy


def test_settings_of_another_method_are_refused_in_the_flow(
    tmp_path: Path, tiny_clip: Path
) -> None:
    with pytest.raises(InputError, match="epochs: --method fast would not look at it"):
        adapt(spec_of(tmp_path, tiny_clip, "fast", phase2=Phase2Spec(epochs=3)))


def test_a_method_with_labels_learns_from_answers(tmp_path: Path, tiny_clip: Path) -> None:
    summary = adapt(spec_of(tmp_path, tiny_clip, "gda", answers=answers_of(tmp_path)))
    assert summary.num_answers == 6
    (model,) = (tmp_path / "workspace" / "models").iterdir()
    weights = load_classifier(model).members[0].head.weight
    assert bool(torch.isfinite(weights).all())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lafter", "vpt"])
def test_a_tower_that_a_method_tuned_is_served(
    method: str, tmp_path: Path, tiny_clip: Path
) -> None:
    answers = answers_of(tmp_path) if method == "vpt" else None
    summary = adapt(spec_of(tmp_path, tiny_clip, method, answers=answers))
    assert summary.accuracy is not None
    (model,) = (tmp_path / "workspace" / "models").iterdir()
    served = load_classifier(model)
    spec = BackboneSpec(name=f"local-dir:{tiny_clip}")
    backbone, (member,) = load_backbone(spec.name), served.members
    pixels = random_pixels(4, backbone.visual.preprocess.size)
    with torch.inference_mode():
        assert not torch.allclose(member.visual(pixels), backbone.visual(pixels), atol=1e-4)
    assert served.facts[TOWERS] != [tower_digest(describe(spec))]
    assert served.facts["distilled"] is None
    assert len(served.facts[ENERGIES]) > 0


def test_a_method_that_does_not_fit_the_tower_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, tmp_path, "maple", backbone=BackboneSpec(name="embedded"))
    with pytest.raises(InputError, match=r"--method maple: .* lafter, must, deft tune any tower"):
        adapt(spec)


@pytest.mark.parametrize(
    ("method", "answered", "said"),
    [("gda", "no", "learns from labels"), ("zlap", "yes", "nothing learns from labels")],
)
def test_labels_that_are_missing_or_would_not_be_used_are_refused(
    method: str, answered: str, said: str, tmp_path: Path, tiny_clip: Path
) -> None:
    answers = answers_of(tmp_path) if answered == "yes" else None
    with pytest.raises(InputError, match=said):
        adapt(spec_of(tmp_path, tiny_clip, method, answers=answers))
