"""One contract for every strategy, then what each one adds; oracles are loops over the formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clipcore.active.balance import balanced, even_share
from clipcore.active.candidates import Candidates
from clipcore.active.clusters import cluster, nearest_mean_similarity, neighbours_mean
from clipcore.active.query import query
from clipcore.active.stopping import Change, change, outlook
from clipcore.active.strategies import STRATEGIES, find_strategy
from clipcore.active.strategy_names import STRATEGY_NAMES, UnknownStrategy
from clipcore.active.uncertainty import entropy_of, margin_of
from tests.worlds.candidates import CLASSES, DIM
from tests.worlds.candidates import known_candidates as known
from tests.worlds.candidates import random_candidates as pool
from tests.worlds.tensors import draws, random_features

ALL = [*STRATEGIES, "pcb", "pcb:entropy", "pcb:paper", "pcb:psp", "clusters-first:paper"]


def copied(candidates: Candidates) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vars(candidates).items()}


@pytest.mark.parametrize("name", ALL)
@given(
    samples=st.integers(1, 30),
    labeled=st.integers(0, 6),
    budget=st.integers(0, 35),
    seed=st.integers(0, 5),
)
@settings(max_examples=25)
def test_contract(name: str, samples: int, labeled: int, budget: int, seed: int) -> None:
    strategy = find_strategy(name)
    candidates = pool(samples, labeled, seed)
    before = copied(candidates)
    chosen = query(strategy, candidates, budget, draws(seed))
    assert chosen.dtype == torch.long
    assert len(chosen) == len(set(chosen.tolist())) == min(budget, samples)
    assert all(0 <= position < samples for position in chosen.tolist())
    assert torch.equal(query(strategy, candidates, budget, draws(seed)), chosen)
    assert all(torch.equal(before[name], value) for name, value in vars(candidates).items())


@pytest.mark.parametrize("name", ALL)
def test_ties_are_broken_by_position_or_by_the_draws(name: str) -> None:
    one = pool(1)
    same = one.only(torch.zeros(12, dtype=torch.long))
    first, again = (find_strategy(name)(same, 5, draws(3)) for _ in range(2))
    assert len(set(first.tolist())) == 5
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", ALL)
def test_the_global_generator_is_neither_read_nor_moved(name: str) -> None:
    state = torch.get_rng_state()
    chosen = find_strategy(name)(pool(), 9, draws(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(find_strategy(name)(pool(), 9, draws(1)), chosen)


def test_unknown_strategies_are_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownStrategy, match=r"'pcb:nothing'|'nothing'.*badge"):
        find_strategy("pcb:nothing")


# --- uncertainty ----------------------------------------------------------------------------------


def test_uncertainty_is_the_formula() -> None:
    p = pool().probabilities
    entropies = [-sum(float(x) * math.log(float(x)) for x in row) for row in p]
    margins = [sorted(row.tolist())[-2] - max(row.tolist()) for row in p]
    torch.testing.assert_close(entropy_of(p), torch.tensor(entropies))
    torch.testing.assert_close(margin_of(p), torch.tensor(margins))
    assert entropy_of(torch.tensor([[1.0, 0.0]])) == 0


@pytest.mark.parametrize("name", ["entropy", "margin", "confidence"])
def test_two_classes_make_all_measures_agree(name: str) -> None:
    p = torch.rand(20, generator=draws())
    both = known(
        random_features(20, DIM),
        torch.stack([p, 1 - p], 1),
        p,
        random_features(0, DIM),
        p[:0].long(),
    )
    expected = sorted(range(20), key=lambda i: abs(float(p[i]) - 0.5))
    assert find_strategy(name)(both, 6, draws()).tolist() == expected[:6]


def test_agreement_is_the_cosine_with_the_text_of_the_predicted_class() -> None:
    candidates = pool(20)
    agreement = []
    for feature, p in zip(candidates.features, candidates.probabilities, strict=True):
        text = candidates.class_embeddings[p.tolist().index(max(p.tolist()))]
        agreement.append(sum(float(a) * float(b) for a, b in zip(feature, text, strict=True)))
    expected = sorted(range(20), key=lambda i: agreement[i])
    assert find_strategy("agreement")(candidates, 20, draws()).tolist() == expected


# --- even shares ----------------------------------------------------------------------------------

LABELS = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=30)


@given(LABELS, st.integers(0, 40), st.sampled_from(["per-class", "global"]))
def test_every_class_gets_its_quota_and_the_budget_is_met(
    labels: list[int], budget: int, remainder: str
) -> None:
    doubt = torch.rand(len(labels), generator=draws())
    predicted = torch.tensor(labels)
    chosen = even_share(doubt, predicted, budget, num_classes=CLASSES, remainder=remainder)
    assert len(set(chosen.tolist())) == len(chosen) == min(budget, len(labels))
    counts = torch.bincount(predicted[chosen], minlength=CLASSES)
    have = torch.bincount(predicted, minlength=CLASSES)
    assert bool((counts >= have.clamp(max=budget // CLASSES)).all())
    for label in range(CLASSES):  # within a class, the most doubtful ones
        own = [i for i in range(len(labels)) if labels[i] == label]
        own.sort(key=lambda i: -float(doubt[i]))
        assert set(own[: int(counts[label])]) == {i for i in chosen.tolist() if labels[i] == label}


def test_fewer_than_one_for_each_class_asks_no_class_twice_or_ranks_all() -> None:
    doubt = torch.tensor([9.0, 8.0, 7.0, 1.0, 2.0])
    predicted = torch.tensor([0, 0, 0, 1, 2])
    one = even_share(doubt, predicted, 3, num_classes=CLASSES, remainder="per-class")
    assert one.tolist() == [0, 4, 3]
    ranked = even_share(doubt, predicted, 3, num_classes=CLASSES, remainder="global")
    assert ranked.tolist() == [0, 1, 2]


def test_balanced_groups_give_equal_shares() -> None:
    predicted = torch.arange(CLASSES).repeat(10)
    chosen = even_share(torch.rand(40, generator=draws()), predicted, 12, num_classes=CLASSES)
    assert torch.bincount(predicted[chosen]).tolist() == [3] * CLASSES


# --- balancing the classes of another strategy ----------------------------------------------------


def test_the_rarest_class_comes_first_and_an_exhausted_one_is_set_aside() -> None:
    candidates = pool(8, 6)
    predicted = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    probabilities = torch.nn.functional.one_hot(predicted, CLASSES).float()
    labels = torch.tensor([0, 0, 0, 1, 1, 2])  # counts 3, 2, 1 and none of class 3
    those = known(
        candidates.features, probabilities, candidates.gap, candidates.labeled_features, labels
    )
    in_order = balanced(lambda found, budget, _: torch.arange(len(found))[:budget])
    # class 3 has no candidate; 2 has one; then 1 until it has as many as 0, the lower number first
    assert in_order(those, 6, draws()).tolist() == [7, 3, 0, 4, 1, 5]


FILLED = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=30)


@given(FILLED, st.lists(st.integers(0, CLASSES - 1), max_size=12), st.integers(1, 35))
def test_tail_first_takes_the_broadest_of_the_rarest_class_each_time(
    predicted: list[int], labels: list[int], budget: int
) -> None:
    candidates = pool(len(predicted), len(labels))
    sure = torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).float()
    probabilities = 0.5 * sure + 0.5 * candidates.probabilities
    answers = torch.tensor(labels, dtype=torch.long)
    those = known(
        candidates.features, probabilities, candidates.gap, candidates.labeled_features, answers
    )
    doubt, taken_for = entropy_of(probabilities).tolist(), those.predicted.tolist()
    counts, left, expected = [labels.count(k) for k in range(CLASSES)], set(range(len(doubt))), []
    while left and len(expected) < budget:
        rarest = min((taken_for[i] for i in left), key=lambda k: (counts[k], k))
        pick = min((i for i in left if taken_for[i] == rarest), key=lambda i: (-doubt[i], i))
        expected.append(pick)
        left.remove(pick)
        counts[rarest] += 1
    assert find_strategy("tfs")(those, budget, draws()).tolist() == expected


# --- diversity ------------------------------------------------------------------------------------


def test_badge_is_seeding_over_the_whole_gradients() -> None:
    candidates = pool(25, 0)
    chosen = find_strategy("badge")(candidates, 6, draws(5)).tolist()
    a = candidates.probabilities.double().clone()
    a[torch.arange(25), candidates.predicted] -= 1
    gradients = torch.einsum("ic,id->icd", a, candidates.features.double()).flatten(1)
    generator = draws(5)
    expected = [int(gradients.norm(dim=1).argmax())]
    while len(expected) < 6:
        distance = torch.cdist(gradients, gradients[expected]).square().amin(dim=1)
        ladder = distance.cumsum(0)
        throw = torch.rand(1, generator=generator, dtype=torch.double) * ladder[-1]
        expected.append(int((ladder <= throw).sum()))
    assert chosen == expected


def test_k_center_takes_the_farthest_each_time() -> None:
    candidates = pool(25, 3)
    chosen = find_strategy("coreset")(candidates, 8, draws()).tolist()
    taken = [*candidates.labeled_features]
    for pick in chosen:
        nearest = [max(float(f @ k) for k in taken) for f in candidates.features]
        assert nearest[pick] == pytest.approx(min(nearest), abs=1e-6)
        taken.append(candidates.features[pick])


def test_typical_asks_in_each_blob_once_and_in_the_answered_one_last() -> None:
    centres = torch.eye(DIM)[:4]
    noise = 0.05 * torch.randn(48, DIM, generator=draws())
    features = torch.nn.functional.normalize(centres.repeat_interleave(12, 0) + noise)
    candidates = known(
        features, pool(48).probabilities, pool(48).gap, centres[:1], torch.tensor([0])
    )
    chosen = find_strategy("typical")(candidates, 3, draws(2))
    assert sorted((chosen // 12).tolist()) == [1, 2, 3]


@pytest.mark.parametrize("labeled", [0, 1, 3])
def test_clusters_come_first_and_only_first(labeled: int) -> None:
    candidates = pool(30, labeled)
    now = find_strategy("typical" if not labeled else "entropy")
    chosen = find_strategy("clusters-first:entropy")(candidates, 6, draws(4))
    assert torch.equal(chosen, now(candidates, 6, draws(4)))


def test_k_means_finds_blobs() -> None:
    centres = torch.eye(DIM)[:3]
    noise = 0.05 * torch.randn(30, DIM, generator=draws())
    x = torch.nn.functional.normalize(centres.repeat_interleave(10, 0) + noise)
    assigned = cluster(x, 3, draws())
    assert [len(set(assigned[i : i + 10].tolist())) for i in (0, 10, 20)] == [1, 1, 1]
    assert len(set(assigned.tolist())) == 3


def test_neighbours_leave_the_image_itself_out() -> None:
    x = random_features(9, DIM)
    values = torch.arange(9.0)
    similar = x @ x.T
    for i in range(9):
        others = sorted((j for j in range(9) if j != i), key=lambda j: -float(similar[i, j]))[:3]
        assert neighbours_mean(x, values, 3)[i] == values[others].mean()
        mean = similar[i, others].double().mean()
        assert nearest_mean_similarity(x, 3)[i] == pytest.approx(float(mean), abs=1e-6)


# --- near-duplicates ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_near_duplicates_never_fill_a_query(name: str) -> None:
    twins = pool(10, 0).only(torch.arange(10).repeat_interleave(4))  # four of each
    chosen = query(find_strategy(name), twins, 10, draws(1))
    assert sorted((chosen // 4).tolist()) == list(range(10))


@pytest.mark.parametrize("name", ALL)
def test_twins_of_answered_images_come_last_but_still_come(name: str) -> None:
    few = pool(6, 0)
    those = known(few.features, few.probabilities, few.gap, few.features[:2], torch.tensor([0, 1]))
    assert set(query(find_strategy(name), those, 4, draws()).tolist()) == {2, 3, 4, 5}
    assert set(query(find_strategy(name), those, 6, draws()).tolist()) == set(range(6))


def test_quotas_hold_when_twins_are_set_aside() -> None:
    start_features = random_features(60, 32)
    start_features[1:7] = start_features[0]  # the seven most doubtful of class 0 are one image
    predicted = torch.arange(3).repeat_interleave(20)
    doubt = -torch.arange(60.0)
    probabilities = torch.nn.functional.one_hot(predicted, 3).float()
    candidates = known(start_features, probabilities, -doubt, start_features[:0], predicted[:0])
    chosen = query(find_strategy("paper"), candidates, 18, draws(), max_similarity=0.97)
    assert torch.bincount(predicted[chosen]).tolist() == [6, 6, 6]
    assert int((chosen < 7).sum()) == 1


# --- when to stop ---------------------------------------------------------------------------------


def test_change_counts_moved_predictions() -> None:
    before, after = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 0, 0])
    found = change(
        before, after, torch.tensor([0.1, 0.9, 0.2, 0.4]), torch.tensor([1, 1, 0.6, 0.6])
    )
    assert found.churn == 0.5
    assert found.surer == pytest.approx(0.3)


def test_outlook_follows_the_fall_of_the_churn() -> None:
    assert outlook([]) is None
    found = outlook([Change(0.2, 0.5), Change(0.1, 0.5)])
    assert found is not None
    assert found.most == pytest.approx(0.05)
    assert found.expected == pytest.approx(0.025)
    assert found.worth_it
    assert outlook([Change(0.02, 0.5), Change(0.01, -1.0)], smallest_gain=0.006).worth_it is False
    assert outlook([Change(0.0, 0.0), Change(0.3, 0.1)]).most == pytest.approx(0.3)


def test_the_names_that_are_known_at_once_are_those_of_the_strategies() -> None:
    assert tuple(STRATEGIES) == STRATEGY_NAMES
