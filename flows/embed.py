"""Embed images: features of every image in Parquet, and nothing else."""

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.plan.facts import Plan
from tasks.plan.files import count_files
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.refs import EmbeddingsRef, Files
from tasks.specs import BackboneSpec, CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="embed")
@in_turn
def embed(
    pool: PoolSpec,
    backbone: BackboneSpec = BackboneSpec(),
    runtime: RuntimeSpec = RuntimeSpec(),
    plan: SkipJsonSchema[Plan | None] = None,
) -> tuple[EmbeddingsRef, Files]:
    """Write the image features of a folder or bucket; class names and labels are not needed.

    Args:
        pool: The images.
        backbone: The pretrained CLIP.
        runtime: Where the results go, and where to compute.
        plan: Of the command that starts this flow.
    """
    spec = CoftSpec(pool=pool, backbone=backbone, runtime=runtime)
    plan = follow(plan, spec, "embed")
    images = open_images(pool, runtime, for_training=False)
    features = embed_pool(images, find_backbone(backbone, runtime), spec)
    record_finished(runtime.workspace)
    return features, count_files(plan, images, features)
