"""What a round asks next: its draws hang on the seed and on its number, and on nothing else."""

import pytest
import torch

from clipcore.active.candidates import Candidates
from clipcore.active.rounds import next_query
from clipcore.active.strategy_names import UnknownStrategy
from tests.worlds.tensors import draws, random_features

BUDGET = 10


@pytest.fixture
def candidates() -> Candidates:
    features, labeled = random_features(60, 8, 0), random_features(4, 8, 1)
    return Candidates(
        features,
        torch.randn(60, 3, generator=draws(2)).softmax(dim=1),
        torch.randn(60, generator=draws(3)),
        labeled,
        torch.tensor([0, 1, 2, 0]),
        start_features=features,
        labeled_start_features=labeled,
        class_embeddings=random_features(3, 8, 4),
    )


def asked(
    candidates: Candidates, *, seed: int = 0, round_number: int = 0, strategy: str = "random"
) -> list[int]:
    return next_query(
        candidates,
        BUDGET,
        strategy=strategy,
        max_similarity=0.99,
        seed=seed,
        round_number=round_number,
    ).tolist()


@pytest.mark.parametrize("strategy", ["random", "entropy", "paper", "pcb"])
def test_equal_numbers_ask_the_same(candidates: Candidates, strategy: str) -> None:
    chosen = asked(candidates, strategy=strategy)
    assert len(set(chosen)) == BUDGET
    assert chosen == asked(candidates, strategy=strategy)


def test_another_round_and_another_seed_draw_anew(candidates: Candidates) -> None:
    queries = [
        asked(candidates),
        asked(candidates, round_number=1),
        asked(candidates, round_number=2),
        asked(candidates, seed=1),
    ]
    assert len({tuple(sorted(each)) for each in queries}) == len(queries)


def test_a_strategy_nobody_knows_is_refused(candidates: Candidates) -> None:
    with pytest.raises(UnknownStrategy, match="luck"):
        asked(candidates, strategy="luck")
