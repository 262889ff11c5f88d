"""The main job on a cluster that loses a node in every stage, with a workspace in a bucket.

The bucket is a real server of S3's protocol, the nodes are real raylets, and each is killed as if
its plug were pulled. The run has its defaults and nobody starts anything for it again; another
node joins after each loss, as it does where a cluster is scaled.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.coft import coft
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    Phase1Spec,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import open_filesystem
from tests.worlds.bucket import s3_bucket
from tests.worlds.cluster import Nodes, program, ray_cluster
from tests.worlds.images import write_images

BUCKET = "s3://photos"
WORKSPACE = f"{BUCKET}/coft"
ROWS = 6  # of a shard: many shards, so that a node can be lost in the middle
EPOCHS = 40  # of Phase I: long enough to be seen at work
EPOCHS_OF_PHASE2 = 6  # the first of which ends long before the last

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("prefect_session"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def bucket() -> Iterator[None]:
    with s3_bucket("photos"):
        yield


def names(pattern: str) -> list[str]:
    """Return the files of the workspace that match a pattern."""
    filesystem, path = open_filesystem(f"{WORKSPACE}/{pattern}")
    return list(filesystem.glob(path))


def wait_until(condition: Callable[[], bool], what: str, process: Any, log: Path) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{what} was never seen:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)  # the server of the bucket has the cores of the run


def test_a_run_that_loses_a_node_in_every_stage_arrives_at_the_same(
    tmp_path: Path, tiny_clip: Path, bucket: None, ray_session: None
) -> None:
    images = write_images(tmp_path)
    log, summary = tmp_path / "log", tmp_path / "summary.json"
    spec = CoftSpec(
        pool=PoolSpec(images=str(images), labels="column", rows_per_shard=ROWS),
        backbone=BackboneSpec(name=f"local-dir:{tiny_clip}"),
        label=LabelSpec(top=TopSpec(per_class=4, min_total=0)),
        phase1=Phase1Spec(epochs=EPOCHS, min_steps=0, batch_size=8),
        phase2=Phase2Spec(epochs=EPOCHS_OF_PHASE2),
        # One worker with both cores sums in the order of those on nodes of two cores.
        runtime=RuntimeSpec(workspace=str(tmp_path / "whole"), num_actors=1),
        register_as="colours",
    )
    words = ["-c", "from flows.cli import main; main()", "adapt"]
    words += ["--images", str(images), "--labels", "column", "--rows-per-shard", str(ROWS)]
    words += ["--backbone", spec.backbone.name, "--register", "colours"]
    words += ["--label.top.per-class", "4", "--label.top.min-total", "0"]
    words += ["--phase1.epochs", str(EPOCHS), "--phase1.min-steps", "0", "--phase1.batch-size", "8"]
    words += ["--phase2.epochs", str(EPOCHS_OF_PHASE2)]
    words += ["--workspace", WORKSPACE, "--summary", str(summary)]
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    with ray_cluster(num_cpus=2) as nodes:
        nodes.add("one", num_cpus=2)
        with program([*words, "--ray-address", nodes.address], log, variables) as process:
            lose_a_node_in_every_stage(nodes, process, log)
            assert process.wait(400) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert said.count("goes on") >= 3
    assert "Traceback" not in said
    whole = coft(spec)
    lost = json.loads(summary.read_text())
    assert lost["accuracy"] == whole.accuracy
    assert lost["per_class"] == whole.per_class
    labels, scores = rows_of(WORKSPACE)
    same_labels, same_scores = rows_of(spec.runtime.workspace)
    assert labels == same_labels
    # Images that a node has as pixels come first, and in another batch sums round otherwise.
    assert scores == pytest.approx(same_scores, abs=0.02)


def rows_of(workspace: str) -> tuple[dict[str, str], dict[str, float]]:
    """Return the label and the score of each image that was predicted."""
    filesystem, path = open_filesystem(f"{workspace}/predictions/*/manifest.json")
    (manifest,) = filesystem.glob(path)
    folder = filesystem.unstrip_protocol(manifest).removesuffix("/manifest.json")
    tables = iter_tables(folder, ["image_id", "label", "confidence"])
    rows = [row for table in tables for row in table.to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows)
    return (
        {row["image_id"]: row["label"] for row in rows},
        {row["image_id"]: row["confidence"] for row in rows},
    )


def lose_a_node_in_every_stage(nodes: Nodes, process: Any, log: Path) -> None:
    wait_until(lambda: len(names("embeddings/*/part-*")) >= 3, "embedding", process, log)
    nodes.kill("one")
    nodes.add("two", num_cpus=2)
    wait_until(lambda: len(names("peers/*/resume*")) == 2, "both peers of Phase I", process, log)
    nodes.kill("two")
    nodes.add("three", num_cpus=2)
    wait_until(lambda: len(names("peers/*/epoch-0*")) == 2, "both networks", process, log)
    nodes.kill("three")
