"""A simulated course of questions, on features that fall into blobs, and what is said of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipcore.active.oracle import Oracle
from clipcore.backbone import Backbone
from tasks.active import simulation_report
from tasks.active.learn import new_learner, score
from tasks.active.trial import Beginning, Images, Method, Row, Setting, run_trial, train_first
from tasks.backbone import load_backbone
from tasks.specs import LearnerSpec, QuerySpec

CLASSES = ("red", "green", "blue")
LEARNER = LearnerSpec(epochs=2, min_steps=6, per_class=4, min_pseudo=0, learning_rate=0.1)


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


def course(backbone: Backbone, strategy: str = "paper", seed: int = 0) -> tuple[list[Row], Oracle]:
    dim = backbone.embed_dim
    (features, labels), (test, truth) = blobs(60, dim, 2), blobs(30, dim, 3)
    centres = F.normalize(torch.randn(len(CLASSES), dim, generator=_draws(1)), dim=1)
    beginning = Beginning(F.normalize(centres + 0.2, dim=1), 20.0)
    oracle = Oracle(labels)
    method = Method(LEARNER, QuerySpec(strategy=strategy, per_round=6, max_similarity=1.0), seed)
    images = Images(features, test, truth, CLASSES)
    setting = Setting(images, beginning, lambda: backbone)
    rows = run_trial(setting, oracle, method, rounds=2, first=train_first(setting, method))
    return rows, oracle


def painted(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy images, each class a little brighter in a channel of its own."""
    labels = torch.arange(count) % len(CLASSES)
    pixels = torch.randint(0, 200, (count, size, size, 3), generator=_draws(seed))
    for number, label in enumerate(labels.tolist()):
        pixels[number, :, :, label] += 20
    return pixels.to(torch.uint8), labels


LEARNERS = [
    {"kind": "coop"},
    {"kind": "vpt", "num_visual_prompts": 2},
    {"kind": "maple", "coupled_depth": 2},
    {"kind": "dual", "images": "tower", "adapter": "lora", "lora_rank": 2},
]


@pytest.mark.parametrize("changes", LEARNERS, ids=["coop", "vpt", "maple", "dual-tower"])
def test_every_learner_goes_through_a_course(
    backbone: Backbone, tiny_clip: Path, changes: dict[str, object]
) -> None:
    spec = LEARNER.model_copy(update={**changes, "learning_rate": 0.01})
    size = backbone.visual.preprocess.size
    (pixels, labels), (test_pixels, truth) = painted(24, size, 5), painted(12, size, 6)
    with torch.inference_mode():
        features, test_features = backbone.visual(pixels), backbone.visual(test_pixels)
    images = Images(features, test_features, truth, CLASSES)
    if not spec.on_features:
        images = replace(images, pixels=pixels, test_pixels=test_pixels)
    centres = torch.stack([features[labels == k].mean(dim=0) for k in range(len(CLASSES))])
    beginning = Beginning(F.normalize(centres, dim=1), 20.0)
    setting = Setting(images, beginning, lambda: load_backbone(f"local-dir:{tiny_clip}"))
    method = Method(spec, QuerySpec(strategy="paper", per_round=3, max_similarity=1.0), seed=0)

    def rows() -> list[Row]:
        oracle = Oracle(labels)
        first = train_first(setting, method)
        return without_times(run_trial(setting, oracle, method, rounds=1, first=first))

    found = rows()
    assert [row["num_labels"] for row in found] == [0, 3]
    assert found == rows()
    assert not spec.believes or spec.kind == "dual"


def without_times(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_each_label_is_read_once_and_only_when_it_was_asked_for(backbone: Backbone) -> None:
    rows, oracle = course(backbone)
    assert [row["num_labels"] for row in rows] == [0, 6, 12]
    assert oracle.num_read == 12
    assert [sum(row["answers_per_class"]) for row in rows] == [0, 6, 12]
    assert rows[0]["churn"] is None
    assert rows[2]["outlook"] is not None


def test_a_trial_is_decided_by_its_seed(backbone: Backbone) -> None:
    one, two, other = (without_times(course(backbone, "random", s)[0]) for s in (0, 0, 1))
    assert one == two
    assert one != other


def test_scores_do_not_depend_on_what_stands_beside_an_image(backbone: Backbone) -> None:
    given = torch.zeros(len(CLASSES), backbone.embed_dim)
    learner = new_learner(backbone, CLASSES, LEARNER, given=given, seed=0)
    block = learner.images.block
    features, _ = blobs(block + 7, backbone.embed_dim, 4)
    whole = score(learner, features)
    for size in (1, 3, 100):
        part = score(learner, features[block - 2 : block - 2 + size])
        for name in ("probabilities", "gap", "p_clean"):
            expected = getattr(whole, name)[block - 2 : block - 2 + size]
            assert torch.equal(getattr(part, name)[: len(expected)], expected), name


def test_findings_are_means_and_spreads_over_seeds() -> None:
    def rows(*accuracy: float) -> list[Row]:
        return [
            {
                "num_labels": 10 * number,
                "accuracy": value,
                "answers_per_class": [number, 0],
                "detectors": {
                    "p_clean": {"auroc": value, "calibration_error": None},
                    "margin": {"auroc": None, "calibration_error": None},
                },
            }
            for number, value in enumerate(accuracy)
        ]

    lines = {
        "paper": {"0": rows(0.5, 0.7), "1": rows(0.5, 0.9)},
        "random": {"0": rows(0.5, 0.65), "1": rows(0.5, 0.75)},
    }
    summary = simulation_report.summarize(
        {"levels": {"zero-shot": 0.4, "CoFT": None}, "lines": lines}
    )
    found = summary["lines"]["paper"]
    assert found["mean"] == pytest.approx([0.5, 0.8])
    assert found["spread"] == pytest.approx([0.0, 0.1 * 2**0.5])
    assert found["area"] == pytest.approx(0.65)
    assert found["empty_classes"] == [2, 1]
    assert summary["levels"] == {"zero-shot": 0.4}
    assert found["over_random"]["mean"] == pytest.approx([0.0, 0.1])
    assert found["over_random"]["spread"] == pytest.approx([0.0, 0.05 * 2**0.5])
    assert "over_random" not in summary["lines"]["random"]
    said = simulation_report.lines(summary)
    assert "paper above random, points by seed: +0.0 ± 0.0, +10.0 ± 7.1" in said
    assert any(line.endswith("margin unknown") for line in said)
    assert simulation_report.table(summary)[1] == [
        "paper",
        "0.500 ± 0.000",
        "0.800 ± 0.141",
        "0.6500",
    ]
    page = simulation_report.page(summary, title="<b>", command="coft & co")
    assert "&lt;b&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "")
