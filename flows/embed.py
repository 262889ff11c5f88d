"""Embed images: features of every image in Parquet, and nothing else."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.pool.open import open_images
from tasks.refs import EmbeddingsRef
from tasks.specs import CoftSpec


@flow(name="embed")
def embed(spec: CoftSpec) -> EmbeddingsRef:
    """Write the image features of a folder or bucket; class names and labels are not needed."""
    images = open_images(spec.pool, spec.runtime, for_training=False)
    backbone = find_backbone(spec.backbone, spec.runtime)
    return embed_pool(images, backbone, spec)
