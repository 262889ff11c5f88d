"""How many actors a stage gets: for clusters of every kind, and on a real one."""

from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from tasks.compute.cluster import actors
from tasks.compute.placement import Node, Share, share_of, shares
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
PEERS = {"most": 2, "split": 2}


@pytest.mark.parametrize(
    ("cluster", "asked", "stage", "expected"),
    [
        (LAPTOP, {}, {}, Share(1, 2, 0)),
        (LAPTOP, {}, PEERS, Share(2, 1, 0)),
        (LAPTOP, {"num_actors": 2}, {}, Share(2, 1, 0)),
        (LAPTOP, {"num_actors": 4}, {}, Share(2, 1, 0)),
        (LAPTOP, {"num_actors": 4}, {"most": 1}, Share(1, 2, 0)),
        (SERVER, {}, {}, Share(4, 8, 0)),
        (SERVER, {}, {"most": 1}, Share(1, 32, 0)),
        (SERVER, {"num_actors": 8}, {"most": 3}, Share(3, 10, 0)),
        (ONE_GPU, {}, {}, Share(1, 16, 1)),
        (ONE_GPU, {}, PEERS, Share(2, 8, 0.5)),
        (FOUR_GPUS, {}, {}, Share(4, 8, 1)),
        (FOUR_GPUS, {}, PEERS, Share(2, 16, 1)),
        (FOUR_GPUS, {"num_gpus": 2}, {}, Share(2, 16, 2)),
        (FOUR_GPUS, {"num_gpus": 0.5, "num_actors": 8}, {}, Share(8, 4, 0.5)),
        (SMALL_NODES, {}, {}, Share(3, 2, 0)),
        (SMALL_NODES, {}, {"most": 1}, Share(1, 2, 0)),
        (SMALL_NODES, {}, PEERS, Share(2, 2, 0)),
        (SMALL_NODES, {"num_actors": 9}, {}, Share(6, 1, 0)),
        (GPU_NODES, {}, {}, Share(3, 16, 1)),
        (GPU_NODES, {}, PEERS, Share(2, 16, 1)),
        (CPU_NODES, {}, {}, Share(8, 8, 0)),
        (CPU_NODES, {}, PEERS, Share(2, 16, 0)),
        (UNEQUAL, {}, PEERS, Share(2, 32, 0)),
        (UNEQUAL, {}, {}, Share(9, 7, 0)),
        (ONE_NODE_HAS_GPUS, {}, {}, Share(2, 8, 1)),
        (ONE_NODE_HAS_GPUS, {}, PEERS, Share(2, 8, 1)),
        (FEW_CORES, {}, {}, Share(4, 0.5, 1)),
    ],
)
def test_a_stage_gets_actors_that_the_nodes_can_hold(
    cluster: list[Node], asked: dict[str, Any], stage: dict[str, int], expected: Share
) -> None:
    share = share_of(cluster, RuntimeSpec(**asked), **stage)
    assert share == expected
    assert fits(cluster, share)
    assert share.device == ("cuda" if any(node.gpus for node in cluster) else "cpu")


def fits(cluster: list[Node], share: Share) -> bool:
    """Place the actors one by one on the first node that has room."""
    left = [[node.cpus, node.gpus] for node in cluster]
    for _ in range(share.num_actors):
        room = [n for n in left if n[0] >= share.num_cpus and n[1] >= share.num_gpus]
        if not room:
            return False
        room[0][0] -= share.num_cpus
        room[0][1] -= share.num_gpus
    return True


NODES = st.lists(st.builds(Node, st.integers(1, 64), st.integers(0, 4)), min_size=1, max_size=5)


@given(NODES, st.none() | st.integers(1, 9), st.none() | st.integers(1, 9), st.integers(1, 3))
def test_whatever_the_cluster_no_actor_waits_for_what_no_node_has(
    cluster: list[Node], num_actors: int | None, most: int | None, split: int
) -> None:
    share = share_of(cluster, RuntimeSpec(num_actors=num_actors), most=most, split=split)
    assert fits(cluster, share)
    assert share.num_actors <= (most or share.num_actors)
    assert share.num_actors <= (num_actors or share.num_actors)


def test_fewer_actors_than_asked_for_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    share_of(LAPTOP, RuntimeSpec(num_actors=4))
    assert "room for 2 actors, not for 4" in capsys.readouterr().err
    share_of(LAPTOP, RuntimeSpec(num_actors=2))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("cluster", "asked", "sentence"),
    [
        (LAPTOP, {"num_gpus": 1}, "1 actors with 1 GPUs each, but the Ray cluster has 0"),
        (ONE_GPU, {"num_gpus": 2}, "1 actors with 2 GPUs each, but the Ray cluster has 1"),
        (FOUR_GPUS, {"num_gpus": 1, "num_actors": 5}, "5 actors with 1 GPUs each.*has 4"),
        (GPU_NODES, {"num_gpus": 2}, "1 actors with 2 GPUs each.*has 3 on 3 nodes"),
    ],
)
def test_what_no_cluster_has_is_an_error_and_no_wait(
    cluster: list[Node], asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        share_of(cluster, RuntimeSpec(**asked))


def test_a_real_cluster_starts_what_was_promised(ray_session: None) -> None:
    class Here:
        def where(self) -> str:
            return ray.get_runtime_context().get_node_id()

    share = shares(RuntimeSpec(), most=2, split=2)
    assert share == Share(2, 1, 0)
    with actors(Here, [()] * share.num_actors, share) as started:
        nodes = ray.get([actor.where.remote() for actor in started], timeout=60)
    assert nodes == [ray.get_runtime_context().get_node_id()] * 2
