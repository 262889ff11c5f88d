"""Label propagation, against dense matrices and loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore import propagation
from clipcore.propagation import affinity_graph, nearest, propagate
from tests.worlds.tensors import draws, random_features


def posteriors(count: int, num_classes: int, seed: int = 0) -> Tensor:
    return torch.randn(count, num_classes, generator=draws(seed)).softmax(dim=1)


def graph_with_loops(feature_sets: list[Tensor], k: int) -> Tensor:
    """Return S as its definition says, entry by entry."""
    count = len(feature_sets[0])
    weights = torch.zeros(count, count)
    for features in feature_sets:
        cosines = features @ features.T
        for i in range(count):
            others = sorted((j for j in range(count) if j != i), key=lambda j: -cosines[i, j])
            for j in others[:k]:
                affinity = max(0.0, float(cosines[i, j])) / len(feature_sets)
                weights[i, j] += affinity
                weights[j, i] += affinity
    degree = [float(row.sum()) for row in weights]
    for i in range(count):
        for j in range(count):
            scale = math.sqrt(degree[i] * degree[j])
            weights[i, j] = weights[i, j] / scale if scale else 0.0
    return weights


@pytest.mark.parametrize("sets", [1, 2, 3])
def test_the_graph_is_its_definition_written_with_loops(sets: int) -> None:
    features = [random_features(12, 3, seed) for seed in range(sets)]
    graph = affinity_graph(features, k=4).to_dense()
    torch.testing.assert_close(graph, graph_with_loops(features, 4))
    torch.testing.assert_close(graph, graph.T)


def test_propagation_is_the_equation_with_a_dense_matrix() -> None:
    features, start = [random_features(12, 3)], posteriors(12, 3)
    dense = graph_with_loops(features, 4)
    expected = start
    for _ in range(15):
        expected = 0.9 * dense @ expected + 0.1 * start
    expected = expected / expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(propagate(start, affinity_graph(features, k=4)), expected)


@given(st.integers(0, 20), st.integers(1, 6), st.integers(1, 200))
def test_blocks_find_the_neighbours_that_all_cosines_at_once_find(
    count: int, k: int, block: int
) -> None:
    features = random_features(count, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagation, "BLOCK_BYTES", block)
        cosines, others = nearest(features, k=k)
    every = (features @ features.T).fill_diagonal_(-torch.inf)
    best = every.topk(min(k, max(0, count - 1)), dim=1)
    torch.testing.assert_close(cosines, best.values)
    assert torch.equal(others, best.indices)


def test_the_search_never_holds_more_than_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest product that is made has at most as many bytes as a block."""
    sizes = []
    matmul = Tensor.__matmul__

    def watched(one: Tensor, two: Tensor) -> Tensor:
        product = matmul(one, two)
        sizes.append(product.nbytes)
        return product

    monkeypatch.setattr(propagation, "BLOCK_BYTES", 4 * 300 * 7)
    monkeypatch.setattr(Tensor, "__matmul__", watched)
    nearest(random_features(300, 4), k=3)
    assert len(sizes) == -(-300 // 7)
    assert max(sizes) <= 4 * 300 * 7


def test_a_wrong_label_among_images_that_look_alike_is_outvoted() -> None:
    centres = torch.eye(2, 8).repeat_interleave(10, dim=0)
    features = torch.nn.functional.normalize(centres + 0.1 * random_features(20, 8))
    truth = torch.arange(2).repeat_interleave(10)
    said = torch.full((20, 2), 0.1)
    said[torch.arange(20), truth] = 0.9
    said[3] = said[3].flip(0)
    said[14] = said[14].flip(0)
    spread = propagate(said, affinity_graph([features], k=5))
    assert (said.argmax(dim=1) != truth).sum() == 2
    assert torch.equal(spread.argmax(dim=1), truth)


def test_rows_stay_distributions_and_one_alone_keeps_its_own() -> None:
    start = posteriors(9, 4)
    spread = propagate(start, affinity_graph([random_features(9, 3)], k=2))
    torch.testing.assert_close(spread.sum(dim=1), torch.ones(9))
    assert (spread >= 0).all()
    alone = posteriors(1, 4)
    torch.testing.assert_close(propagate(alone, affinity_graph([torch.eye(1, 3)], k=2)), alone)


@pytest.mark.parametrize("rows", [1, 100])
def test_a_sample_outside_listens_to_the_nearest_ones_inside(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of their posteriors, weighed by cosines, written with loops."""
    monkeypatch.setattr(propagation, "BLOCK_BYTES", 4 * 9 * rows)
    inside = [random_features(9, 3, seed) for seed in (0, 1)]
    outside = [random_features(4, 3, seed) for seed in (2, 3)]
    spread, own = posteriors(9, 2), posteriors(4, 2, 1)
    found = propagation.join_graph(own, outside, spread, inside, k=3, alpha=0.7)
    for sample in range(4):
        heard, total = [0.0, 0.0], 0.0
        for known, seen in zip(inside, outside, strict=True):
            cosines = [float(seen[sample] @ one) for one in known]
            for j in sorted(range(9), key=lambda n: -cosines[n])[:3]:
                weight = max(0.0, cosines[j])
                total += weight
                heard = [h + weight * float(p) for h, p in zip(heard, spread[j], strict=True)]
        expected = [
            0.7 * h / total + 0.3 * float(p) for h, p in zip(heard, own[sample], strict=True)
        ]
        assert found[sample].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_sample_that_is_near_to_none_keeps_its_posterior() -> None:
    own = posteriors(1, 2)
    far = torch.tensor([[-1.0, 0.0]])
    known = torch.tensor([[1.0, 0.0]])
    found = propagation.join_graph(own, [far], posteriors(1, 2, 1), [known], k=3)
    assert torch.equal(found, own)
