"""The trie of the endings of captions: what the names of all classes have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """What the endings of all classes have in common. Node 0 is the prompt, a node a token.

    Attributes:
        tokens: Of the inner nodes, the prompt left out.
        reads: Which of these each of them may read: itself, and those above it.
        depths: How far below the prompt they are; 1 is next to it.
        edges: For each step from an inner node to a child: the node, and the token.
        paths: For each class, the steps to the end of its sentence.
    """

    tokens: Int[Tensor, " inner"]
    reads: Bool[Tensor, "inner inner"]
    depths: Int[Tensor, " inner"]
    edges: Int[Tensor, "edges 2"]
    paths: tuple[tuple[int, ...], ...]


def build_trie(endings: Sequence[Sequence[int]]) -> Trie:
    """Return the trie of endings of which none begins with another one whole."""
    children: list[dict[int, int]] = [{}]
    parents, tokens, depths = [0], [0], [0]
    for ending in endings:
        node = 0
        for token in ending:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                parents.append(node)
                tokens.append(token)
                depths.append(depths[node] + 1)
            node = children[node][token]
    inner = [node for node, below in enumerate(children) if below and node]
    place = {0: 0, **{node: number for number, node in enumerate(inner, start=1)}}
    steps = {
        child: number
        for number, child in enumerate(child for node in place for child in children[node].values())
    }
    edges = [[place[parents[child]], tokens[child]] for child in steps]
    reads = torch.eye(len(inner), dtype=torch.bool)
    for number, node in enumerate(inner):
        if above := place[parents[node]]:
            reads[number] |= reads[above - 1]
    return Trie(
        tokens=torch.tensor([tokens[node] for node in inner], dtype=torch.long),
        reads=reads,
        depths=torch.tensor([depths[node] for node in inner], dtype=torch.long),
        edges=torch.tensor(edges, dtype=torch.long),
        paths=tuple(_path(ending, children, steps) for ending in endings),
    )


def in_groups(endings: Sequence[Sequence[int]], *, most: int) -> list[list[int]]:
    """Return the rows of endings in groups whose tries have at most so many inner nodes.

    Endings that begin alike come together; one that is longer has a group of its own.
    """
    groups: list[list[int]] = [[]]
    count = 0
    for row in sorted(range(len(endings)), key=lambda row: tuple(endings[row])):
        inner = len(endings[row]) - 1  # at most; what it shares with others counts once more
        if groups[-1] and count + inner > most:
            groups.append([])
            count = 0
        groups[-1].append(row)
        count += inner
    return groups


def _path(
    ending: Sequence[int], children: Sequence[dict[int, int]], steps: dict[int, int]
) -> tuple[int, ...]:
    node, path = 0, []
    for token in ending:
        node = children[node][token]
        path.append(steps[node])
    return tuple(path)
