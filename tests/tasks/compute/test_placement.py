"""How many actors a stage gets: for clusters of every kind, and on a real one."""

from typing import Any

import pytest
import ray

from tasks.compute.cluster import actors
from tasks.compute.placement import Share, shares
from tasks.specs import InputError, RuntimeSpec

LAPTOP = {"CPU": 2.0}
SERVER = {"CPU": 32.0}
ONE_GPU = {"CPU": 16.0, "GPU": 1.0}
FOUR_GPUS = {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("cluster", "asked", "stage", "expected"),
    [
        (LAPTOP, {}, {}, Share(1, 2, 0)),
        (LAPTOP, {}, {"most": 2, "split": 2}, Share(2, 1, 0)),
        (LAPTOP, {"num_actors": 2}, {}, Share(2, 1, 0)),
        (SERVER, {}, {}, Share(4, 8, 0)),
        (SERVER, {}, {"most": 1}, Share(1, 32, 0)),
        (SERVER, {"num_actors": 8}, {"most": 3}, Share(3, 10, 0)),
        (ONE_GPU, {}, {}, Share(1, 16, 1)),
        (ONE_GPU, {}, {"most": 2, "split": 2}, Share(2, 8, 0.5)),
        (FOUR_GPUS, {}, {}, Share(4, 8, 1)),
        (FOUR_GPUS, {}, {"most": 2, "split": 2}, Share(2, 16, 1)),
        (FOUR_GPUS, {"num_gpus": 2}, {}, Share(2, 16, 2)),
        (FOUR_GPUS, {"num_gpus": 0.5, "num_actors": 8}, {}, Share(8, 4, 0.5)),
    ],
)
def test_a_stage_gets_its_share_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, float],
    asked: dict[str, Any],
    stage: dict[str, int],
    expected: Share,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    share = shares(RuntimeSpec(**asked), **stage)
    assert share == expected
    assert share.num_actors * share.num_gpus <= cluster.get("GPU", 0)
    assert share.num_actors * share.num_cpus <= cluster["CPU"]
    assert share.device == ("cuda" if "GPU" in cluster else "cpu")


@pytest.mark.parametrize(
    ("cluster", "asked", "sentence"),
    [
        (LAPTOP, {"num_gpus": 1}, "1 actors with 1 GPUs each, but the Ray cluster has 0"),
        (ONE_GPU, {"num_gpus": 2}, "1 actors with 2 GPUs each, but the Ray cluster has 1"),
        (FOUR_GPUS, {"num_gpus": 1, "num_actors": 5}, "5 actors with 1 GPUs each.*has 4"),
    ],
)
def test_what_no_cluster_has_is_an_error_and_no_wait(
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, float],
    asked: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    with pytest.raises(InputError, match=sentence):
        shares(RuntimeSpec(**asked))


def test_a_real_cluster_starts_what_was_promised(ray_session: None) -> None:
    class Here:
        def where(self) -> str:
            return ray.get_runtime_context().get_node_id()

    share = shares(RuntimeSpec(), most=2, split=2)
    assert share == Share(2, 1, 0)
    with actors(Here, [()] * share.num_actors, share) as started:
        nodes = ray.get([actor.where.remote() for actor in started], timeout=60)
    assert nodes == [ray.get_runtime_context().get_node_id()] * 2
