"""What answers say of their neighbours, against loops over dense matrices."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore import propagation
from clipcore.active.spreading import least_spread_margin, spread, with_answers
from tests.worlds.candidates import CLASSES, DIM, known_candidates, random_candidates
from tests.worlds.tensors import draws, random_features


def spread_with_loops(beliefs: list[list[float]], features: Tensor, k: int) -> list[list[float]]:
    """Return fifteen steps of P = 0.9 S P + 0.1 P_0, rows made to sum to 1, entry by entry."""
    count = len(beliefs)
    cosines = (features.double() @ features.double().T).tolist()
    weights = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in sorted((j for j in range(count) if j != i), key=lambda j: -cosines[i][j])[:k]:
            weights[i][j] += max(0.0, cosines[i][j])
            weights[j][i] += max(0.0, cosines[i][j])
    degree = [sum(row) for row in weights]
    found = beliefs
    for _ in range(15):
        found = [
            [
                0.1 * beliefs[i][c]
                + 0.9
                * sum(
                    weights[i][j] / math.sqrt(degree[i] * degree[j]) * found[j][c]
                    for j in range(count)
                    if weights[i][j]
                )
                for c in range(CLASSES)
            ]
            for i in range(count)
        ]
    return [[p / sum(row) for p in row] for row in found]


def test_the_doubt_is_the_margin_of_what_neighbours_say() -> None:
    candidates = random_candidates(18, 6)
    features = torch.cat([candidates.features, candidates.labeled_features])
    beliefs = candidates.probabilities.double().tolist()
    beliefs += [[float(k == label) for k in range(CLASSES)] for label in candidates.labels.tolist()]
    k = 24 // (2 * CLASSES)
    heard = [sorted(row)[::-1] for row in spread_with_loops(beliefs, features, k)[:18]]
    expected = sorted(range(18), key=lambda i: heard[i][0] - heard[i][1])
    assert least_spread_margin(candidates, 18, draws()).tolist() == expected


@given(st.lists(st.integers(-1, CLASSES - 1), min_size=1, max_size=25), st.integers(0, 9))
def test_spread_beliefs_are_probabilities_and_order_changes_nothing(
    answers: list[int], seed: int
) -> None:
    candidates = random_candidates(len(answers), 0, seed)
    beliefs = with_answers(candidates.probabilities, torch.tensor(answers))
    for row, answer in enumerate(answers):
        if answer >= 0:
            assert beliefs[row].tolist() == [float(k == answer) for k in range(CLASSES)]
        else:
            assert torch.equal(beliefs[row], candidates.probabilities[row])
    heard = spread(beliefs, candidates.features)
    assert bool((heard >= 0).all())
    torch.testing.assert_close(heard.sum(dim=1), torch.ones(len(answers)))
    order = torch.randperm(len(answers), generator=draws(seed))
    torch.testing.assert_close(spread(beliefs[order], candidates.features[order]), heard[order])


def test_an_answer_settles_images_that_look_like_it() -> None:
    """Two groups, equally doubtful to the learner; one of them has answers."""
    centres = torch.eye(DIM)[[0] * 20 + [1] * 10]
    noise = 0.05 * torch.randn(30, DIM, generator=draws())
    answered, features = torch.nn.functional.normalize(centres + noise).split([10, 20])
    doubtful = torch.tensor([[0.3, 0.28, 0.22, 0.2]]).repeat(20, 1)
    answers = torch.full((10,), 2)
    candidates = known_candidates(features, doubtful, doubtful[:, 0], answered, answers)
    asked = least_spread_margin(candidates, 10, draws())
    assert sorted(asked.tolist()) == list(range(10, 20))


def test_no_product_is_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    matmul = Tensor.__matmul__

    def watched(one: Tensor, two: Tensor) -> Tensor:
        product = matmul(one, two)
        sizes.append(product.nbytes)
        return product

    monkeypatch.setattr(propagation, "BLOCK_BYTES", 4 * 300 * 7)
    monkeypatch.setattr(Tensor, "__matmul__", watched)
    beliefs = torch.full((300, CLASSES), 1 / CLASSES)
    spread(beliefs, random_features(300, DIM))
    assert max(sizes) <= 4 * 300 * 7
