"""One round of questions, without files: what both people's rounds and simulated ones ask next."""

from jaxtyping import Int
from torch import Tensor

from clipcore.active.candidates import Candidates
from clipcore.active.query import query
from clipcore.active.strategies import find_strategy
from clipcore.seeding import generator


def next_query(
    candidates: Candidates,
    budget: int,
    *,
    strategy: str,
    max_similarity: float,
    seed: int,
    round_number: int,
) -> Int[Tensor, " chosen"]:
    """Return positions of the candidates that a round asks about, in the order of asking.

    Args:
        candidates: What can be asked about, in the order of the image ids.
        budget: How many answers are wanted.
        strategy: By name; see `strategies.find_strategy`.
        max_similarity: See `query.query`.
        seed: Of all rounds.
        round_number: 0 for the first query; another round draws other numbers.

    Raises:
        UnknownStrategy: there is no strategy of that name.
    """
    draws = generator(seed, "active", "query", round_number)
    return query(find_strategy(strategy), candidates, budget, draws, max_similarity=max_similarity)
