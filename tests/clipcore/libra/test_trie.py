"""A trie says of names what they say, also where one begins as another one does."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcore.libra.trie import Trie, build_trie, in_groups

STOP = 99
NAMES = [[1, STOP], [1, 2, STOP], [1, 2, 3, STOP], [4, 2, STOP], [5, STOP]]


def above(trie: Trie, node: int) -> list[int]:
    """Return the tokens on the way to a node, by what it may read; node 0 is the prompt."""
    if node == 0:
        return []
    reads = trie.reads[node - 1].nonzero()[:, 0].tolist()
    on_the_way = sorted(reads, key=lambda one: int(trie.depths[one]))
    assert [int(trie.depths[one]) for one in on_the_way] == list(range(1, len(on_the_way) + 1))
    return [int(trie.tokens[one]) for one in on_the_way]


def check(endings: list[list[int]]) -> Trie:
    trie = build_trie(endings)
    edges = trie.edges.tolist()
    for ending, path in zip(endings, trie.paths, strict=True):
        assert [edges[step][1] for step in path] == ending
        for length, step in enumerate(path):
            assert above(trie, edges[step][0]) == ending[:length]
    inner = {tuple(ending[:length]) for ending in endings for length in range(1, len(ending))}
    steps = {tuple(ending[:length]) for ending in endings for length in range(1, len(ending) + 1)}
    assert len(trie.tokens) == len(inner)  # each beginning is read once
    assert len(edges) == len(steps) == len({tuple(edge) for edge in edges})
    return trie


def test_what_names_have_in_common_is_there_once() -> None:
    trie = check(NAMES)
    assert sorted(trie.tokens.tolist()) == [1, 2, 2, 3, 4, 5]
    assert len(trie.edges) == 11


def test_names_of_one_token_have_no_inner_nodes() -> None:
    trie = check([[1], [2], [3]])
    assert trie.tokens.shape == (0,)
    assert trie.reads.shape == (0, 0)
    assert trie.edges.tolist() == [[0, 1], [0, 2], [0, 3]]


def test_a_node_reads_itself_and_what_is_above_it_alone() -> None:
    trie = check([[1, 2, STOP], [3, STOP]])
    assert trie.tokens.tolist() == [1, 2, 3]
    assert torch.equal(
        trie.reads, torch.tensor([[True, False, False], [True, True, False], [False, False, True]])
    )


@given(st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1))
def test_any_names_that_end_in_a_stop(names: set[tuple[int, ...]]) -> None:
    check([[*name, STOP] for name in sorted(names)])


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_groups_have_every_row_once_and_are_no_larger_than_asked(
    endings: list[list[int]], most: int
) -> None:
    groups = in_groups(endings, most=most)
    assert sorted(row for rows in groups for row in rows) == list(range(len(endings)))
    for rows in groups:
        assert len(rows) == 1 or sum(len(endings[row]) - 1 for row in rows) <= most
