"""Embed images: features of every image in Parquet, and nothing else."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.plan.facts import Plan
from tasks.plan.files import count_files
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.refs import EmbeddingsRef, Files
from tasks.specs import CoftSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="embed")
@in_turn
def embed(spec: CoftSpec, plan: Plan | None = None) -> tuple[EmbeddingsRef, Files]:
    """Write the image features of a folder or bucket; class names and labels are not needed.

    Args:
        spec: Images and backbone; the rest does not count.
        plan: Of the command that starts this flow; leave it empty.
    """
    plan = follow(plan, spec, "embed")
    images = open_images(spec.pool, spec.runtime, for_training=False)
    backbone = find_backbone(spec.backbone, spec.runtime)
    features = embed_pool(images, backbone, spec)
    record_finished(spec.runtime.workspace)
    return features, count_files(plan, images, features)
