"""Simulated rounds on features that fall into blobs, for every learner."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipcore.active.oracle import Oracle
from clipcore.active.scores import score
from clipcore.active.simulation import Images, Row, simulate, train_first
from clipcore.backbone import Backbone
from clipcore.head import Head
from tasks.active.learners import new_learner
from tasks.active.simulate import Trial, method_of
from tasks.active.specs import LearnerSpec, QuerySpec
from tasks.backbone import load_backbone
from tasks.specs import SgdSpec, TopSpec

CLASSES = ("red", "green", "blue")
LEARNER = LearnerSpec(
    epochs=2, min_steps=6, top=TopSpec(per_class=4, min_total=0), sgd=SgdSpec(learning_rate=0.1)
)


@pytest.fixture(scope="module")
def backbone(tiny_clip: Path) -> Backbone:
    return load_backbone(f"local-dir:{tiny_clip}")


def _draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % len(CLASSES)
    centres = F.normalize(torch.randn(len(CLASSES), dim, generator=_draws(1)), dim=1)
    noise = 0.08 * torch.randn(count, dim, generator=_draws(seed))
    return F.normalize(centres[labels] + noise, dim=1), labels


def play(backbone: Backbone, strategy: str = "paper", seed: int = 0) -> tuple[list[Row], Oracle]:
    dim = backbone.embed_dim
    (features, labels), (test, truth) = blobs(60, dim, 2), blobs(30, dim, 3)
    centres = F.normalize(torch.randn(len(CLASSES), dim, generator=_draws(1)), dim=1)
    start = Head(F.normalize(centres + 0.2, dim=1), 20.0)
    oracle = Oracle(labels)
    query = QuerySpec(strategy=strategy, per_round=6, max_similarity=1.0)
    trial = Trial(learner=LEARNER, query=query, seed=seed, flip=True)
    method = method_of(trial, CLASSES, start, lambda: backbone)
    images = Images(features, test, truth, CLASSES)
    first = train_first(images, start, method)
    return simulate(images, start, oracle, method, rounds=2, first=first), oracle


def painted(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy images, each class a little brighter in a channel of its own."""
    labels = torch.arange(count) % len(CLASSES)
    pixels = torch.randint(0, 200, (count, size, size, 3), generator=_draws(seed))
    for number, label in enumerate(labels.tolist()):
        pixels[number, :, :, label] += 20
    return pixels.to(torch.uint8), labels


LEARNERS = [
    {"kind": "coop"},
    {"kind": "vpt", "adapter": {"num_visual_prompts": 2}},
    {"kind": "maple", "coupled_depth": 2},
    {"kind": "dual", "images": "tower", "adapter": {"name": "lora", "lora_rank": 2}},
]


@pytest.mark.slow  # two rounds of each learner, twice
@pytest.mark.parametrize("changes", LEARNERS, ids=["coop", "vpt", "maple", "dual-tower"])
def test_every_learner_goes_through_rounds(
    backbone: Backbone, tiny_clip: Path, changes: dict[str, object]
) -> None:
    values = {**LEARNER.model_dump(), **changes, "sgd": {"learning_rate": 0.01}}
    spec = LearnerSpec.model_validate(values)
    size = backbone.visual.preprocess.size
    (pixels, labels), (test_pixels, truth) = painted(24, size, 5), painted(12, size, 6)
    with torch.inference_mode():
        features, test_features = backbone.visual(pixels), backbone.visual(test_pixels)
    images = Images(features, test_features, truth, CLASSES)
    if not spec.on_features:
        images = replace(images, pixels=pixels, test_pixels=test_pixels)
    centres = torch.stack([features[labels == k].mean(dim=0) for k in range(len(CLASSES))])
    start = Head(F.normalize(centres, dim=1), 20.0)
    query = QuerySpec(strategy="paper", per_round=3, max_similarity=1.0)
    trial = Trial(learner=spec, query=query, seed=0, flip=True)
    method = method_of(trial, CLASSES, start, lambda: load_backbone(f"local-dir:{tiny_clip}"))

    def rows() -> list[Row]:
        oracle = Oracle(labels)
        first = train_first(images, start, method)
        return without_times(simulate(images, start, oracle, method, rounds=1, first=first))

    found = rows()
    assert [row["num_labels"] for row in found] == [0, 3]
    assert found == rows()
    assert not spec.on_pseudo_labels or spec.kind == "dual"


def without_times(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_each_label_is_read_once_and_only_when_it_was_asked_for(backbone: Backbone) -> None:
    rows, oracle = play(backbone)
    assert [row["num_labels"] for row in rows] == [0, 6, 12]
    assert oracle.num_read == 12
    assert [sum(row["answers_per_class"]) for row in rows] == [0, 6, 12]
    assert rows[0]["churn"] is None
    assert rows[2]["outlook"] is not None


def test_a_trial_is_decided_by_its_seed(backbone: Backbone) -> None:
    one, two, other = (without_times(play(backbone, "random", s)[0]) for s in (0, 0, 1))
    assert one == two
    assert one != other


def test_scores_do_not_depend_on_what_stands_beside_an_image(backbone: Backbone) -> None:
    given = torch.zeros(len(CLASSES), backbone.embed_dim)
    learner = new_learner(backbone, CLASSES, LEARNER, given=given, seed=0)
    block = learner.images.block
    features, _ = blobs(block + 7, backbone.embed_dim, 4)
    head = learner.head()
    whole = score(learner.images, head, features)
    for size in (1, 3, 100):
        part = score(learner.images, head, features[block - 2 : block - 2 + size])
        for name in ("probabilities", "gap", "p_clean"):
            expected = getattr(whole, name)[block - 2 : block - 2 + size]
            assert torch.equal(getattr(part, name)[: len(expected)], expected), name
