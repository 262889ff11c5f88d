"""How many workers a run gets: for clusters of every kind."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.compute.placement import Node, Share, share_of, share_of_cores, share_of_rest
from tasks.specs import InputError, RuntimeSpec

LAPTOP = [Node(2)]
SERVER = [Node(32)]
ONE_GPU = [Node(16, 1)]
FOUR_GPUS = [Node(32, 4)]
SMALL_NODES = [Node(2)] * 3
GPU_NODES = [Node(16, 1)] * 3
CPU_NODES = [Node(16)] * 4
UNEQUAL = [Node(64), Node(2)]
ONE_NODE_HAS_GPUS = [Node(0), Node(32), Node(16, 2)]
FEW_CORES = [Node(2, 4)]


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        ([Node(1)], {}, Share(1, 1, 0)),
        (LAPTOP, {}, Share(2, 1, 0)),
        (LAPTOP, {"num_actors": 1}, Share(1, 2, 0)),
        (LAPTOP, {"num_actors": 4}, Share(2, 1, 0)),
        (SERVER, {}, Share(4, 8, 0)),
        (SERVER, {"num_actors": 3}, Share(3, 10, 0)),
        (ONE_GPU, {}, Share(2, 8, 0.5)),
        (ONE_GPU, {"num_gpus": 1}, Share(1, 16, 1)),
        (ONE_GPU, {"num_actors": 1}, Share(1, 16, 1)),
        (FOUR_GPUS, {}, Share(4, 8, 1)),
        (FOUR_GPUS, {"num_gpus": 2}, Share(2, 16, 2)),
        (FOUR_GPUS, {"num_gpus": 0.5, "num_actors": 8}, Share(8, 4, 0.5)),
        (SMALL_NODES, {}, Share(3, 2, 0)),
        (SMALL_NODES, {"num_actors": 1}, Share(1, 2, 0)),
        (SMALL_NODES, {"num_actors": 9}, Share(6, 1, 0)),
        (GPU_NODES, {}, Share(3, 16, 1)),
        (CPU_NODES, {}, Share(8, 8, 0)),
        (CPU_NODES, {"num_actors": 2}, Share(2, 16, 0)),
        (UNEQUAL, {}, Share(9, 7, 0)),
        (UNEQUAL, {"num_actors": 2}, Share(2, 32, 0)),
        (ONE_NODE_HAS_GPUS, {}, Share(2, 8, 1)),
        (FEW_CORES, {}, Share(4, 0.5, 1)),
    ],
)
def test_a_run_gets_workers_that_the_nodes_can_hold(
    cluster: list[Node], asked: dict[str, Any], expected: Share
) -> None:
    share = share_of(cluster, RuntimeSpec(**asked))
    assert share == expected
    assert fits(cluster, share)
    assert share.device == ("cuda" if any(node.gpus for node in cluster) else "cpu")


def fits(cluster: list[Node], share: Share) -> bool:
    """Place the workers one by one on the first node that has room."""
    left = [[node.cpus, node.gpus] for node in cluster]
    for _ in range(share.num_workers):
        room = [n for n in left if n[0] >= share.num_cpus and n[1] >= share.num_gpus]
        if not room:
            return False
        room[0][0] -= share.num_cpus
        room[0][1] -= share.num_gpus
    return True


NODES = st.lists(st.builds(Node, st.integers(1, 64), st.integers(0, 4)), min_size=1, max_size=5)


@given(NODES, st.none() | st.integers(1, 9))
def test_whatever_the_cluster_no_worker_waits_for_what_no_node_has(
    cluster: list[Node], num_actors: int | None
) -> None:
    share = share_of(cluster, RuntimeSpec(num_actors=num_actors))
    assert fits(cluster, share)
    assert 1 <= share.num_workers <= (num_actors or share.num_workers)
    assert fits(cluster, share_of_cores(cluster))


@given(NODES, st.sampled_from([0.0, 1.0]), st.integers(-1, 2), st.none() | st.integers(-1, 9))
def test_those_that_come_later_fit_into_what_is_left(
    rest: list[Node], gpus: float, at_least: int, at_most: int | None
) -> None:
    share = share_of_rest(rest, gpus, at_least=at_least, at_most=at_most)
    assert fits(rest, share)
    assert share.num_gpus == gpus
    assert share.num_workers <= max(0, at_most if at_most is not None else share.num_workers)
    if gpus and at_most is None:
        assert share.num_workers == sum(node.gpus for node in rest)


@pytest.mark.parametrize(
    ("rest", "wanted", "expected"),
    [
        ([Node(0), Node(2)], {"at_least": 0, "at_most": None}, Share(1, 2, 0)),
        ([Node(0), Node(2)], {"at_least": 1, "at_most": None}, Share(1, 2, 0)),
        ([Node(0)], {"at_least": 1, "at_most": None}, Share(0, 0, 0)),
        ([Node(1)], {"at_least": 1, "at_most": None}, Share(1, 1, 0)),
        ([Node(16), Node(16)], {"at_least": 0, "at_most": 3}, Share(3, 8, 0)),
        ([Node(16)], {"at_least": 2, "at_most": 0}, Share(0, 0, 0)),
        ([Node(4)], {"at_least": 0, "at_most": None, "cores": 1}, Share(4, 1, 0)),
    ],
)
def test_what_a_node_that_joins_gets(
    rest: list[Node], wanted: dict[str, Any], expected: Share
) -> None:
    assert share_of_rest(rest, 0.0, **wanted) == expected


def test_fewer_workers_than_asked_for_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    share_of(LAPTOP, RuntimeSpec(num_actors=4))
    assert "room for 2 workers, not for 4" in capsys.readouterr().err
    share_of(LAPTOP, RuntimeSpec(num_actors=2))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("cluster", "asked", "sentence"),
    [
        (LAPTOP, {"num_gpus": 1}, "1 workers with 1 GPUs each, but the Ray cluster has 0"),
        (ONE_GPU, {"num_gpus": 2}, "1 workers with 2 GPUs each, but the Ray cluster has 1"),
        (FOUR_GPUS, {"num_gpus": 1, "num_actors": 5}, "5 workers with 1 GPUs each.*has 4"),
        (GPU_NODES, {"num_gpus": 2}, "1 workers with 2 GPUs each.*has 3 on 3 nodes"),
    ],
)
def test_what_no_cluster_has_is_an_error_and_no_wait(
    cluster: list[Node], asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        share_of(cluster, RuntimeSpec(**asked))
