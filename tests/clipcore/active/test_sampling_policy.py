"""Draws where the prompts are expected to be wrong, against loops over the formulas."""

from dataclasses import replace
from statistics import fmean, median, pstdev

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcore.active.sampling_policy import expected_gap, prompt_guided, reliable_labels
from tests.worlds.candidates import CLASSES, DIM, known_candidates, random_candidates
from tests.worlds.tensors import draws, random_features

Vectors = list[list[float]]


def cosine(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def gap(feature: list[float], texts: Vectors, label: int) -> float:
    return max(cosine(feature, text) for text in texts) - cosine(feature, texts[label])


def nearest(feature: list[float], others: Vectors, count: int) -> list[int]:
    return sorted(range(len(others)), key=lambda j: -cosine(feature, others[j]))[:count]


def reliable_with_loops(features: Vectors, p: Vectors) -> tuple[list[int], list[bool]]:
    labels, sure, deviations = [], [], []
    for i, feature in enumerate(features):
        views = [i, *[j for j in nearest(feature, features, 5) if j != i][:4]]
        mean = [fmean(p[j][k] for j in views) for k in range(CLASSES)]
        labels.append(mean.index(max(mean)))
        sure.append(max(mean))
        deviations.append(pstdev(max(p[j]) for j in views))
    middle = sorted(sure)[(len(sure) - 1) // 2], sorted(deviations)[(len(sure) - 1) // 2]
    assert len(sure) % 2 == 0 or middle == (median(sure), median(deviations))
    return labels, [
        one >= middle[0] and two <= middle[1] for one, two in zip(sure, deviations, strict=True)
    ]


@pytest.mark.parametrize("labeled", [0, 3, 15])
def test_the_expected_gap_is_its_definition_written_with_loops(labeled: int) -> None:
    candidates = random_candidates(31, labeled)
    features, texts = (
        part.double().tolist() for part in (candidates.features, candidates.class_embeddings)
    )
    p = candidates.probabilities.double().tolist()
    labels, reliable = reliable_with_loops(features, p)
    found, mask = reliable_labels(candidates.features, candidates.probabilities)
    assert found.tolist() == labels
    assert mask.tolist() == reliable

    answered = candidates.labeled_features.double().tolist()
    pairs = zip(answered, candidates.labels.tolist(), strict=True)
    real = [gap(feature, texts, label) for feature, label in pairs]
    chosen = [i for i, yes in enumerate(reliable) if yes]
    believed = [features[i] for i in chosen]
    pseudo = [gap(features[i], texts, labels[i]) for i in chosen]
    for feature, value in zip(features, expected_gap(candidates).tolist(), strict=True):
        told = [real[j] for j in nearest(feature, answered, 10)]
        guessed = [pseudo[j] for j in nearest(feature, believed, 10)]
        expected = (fmean(told) if told else 0) + 0.7 * (fmean(guessed) if guessed else 0)
        assert value == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 30), st.integers(0, 8), st.integers(0, 9))
def test_the_expected_gap_is_never_negative_and_finite(n: int, labeled: int, seed: int) -> None:
    found = expected_gap(random_candidates(n, labeled, seed))
    assert bool((found >= 0).all())
    assert bool(found.isfinite().all())


def test_images_are_drawn_in_proportion_to_what_is_expected() -> None:
    """One group of answers was far from its text, the other one right at it."""
    centres = torch.eye(DIM)[:2]
    features = centres.repeat_interleave(20, 0)
    texts = torch.eye(DIM)[:CLASSES]
    sure = torch.full((40, CLASSES), 0.25)
    answered = torch.cat([centres[:1].repeat(10, 1), centres[1:].repeat(10, 1)])
    answers = torch.tensor([0] * 10 + [2] * 10)  # the second group is taken for class 1
    candidates = known_candidates(features, sure, sure[:, 0], answered, answers)
    candidates = replace(candidates, class_embeddings=texts)
    value = expected_gap(candidates)
    assert bool((value[20:] > value[:20].max()).all())
    first = [int(prompt_guided(candidates, 1, draws(seed))[0]) for seed in range(60)]
    share = float(value[20:].sum() / value.sum())
    assert sum(pick >= 20 for pick in first) / 60 == pytest.approx(share, abs=0.15)


def test_where_nothing_is_expected_to_be_wrong_every_image_may_be_drawn() -> None:
    features = random_features(1, DIM).repeat(12, 1)
    p = torch.full((12, CLASSES), 0.25)
    none = torch.zeros(0).long()
    candidates = known_candidates(features, p, p[:, 0], features[:0], none)
    candidates = replace(candidates, class_embeddings=features[:CLASSES])
    assert set(expected_gap(candidates).tolist()) == {0.0}
    picks = {int(prompt_guided(candidates, 1, draws(seed))[0]) for seed in range(100)}
    assert len(picks) > 8
