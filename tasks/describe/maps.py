"""Maps of features: what an image shows where, in fp16."""

from tasks.describe.specs import DescribeSpec
from tasks.features.embedding import embed
from tasks.features.towers import Tower, map_tower
from tasks.refs import EmbeddingsRef, ImagesRef
from tasks.storage.stage import step


@step("map images")
def map_images(images: ImagesRef, tower: Tower, spec: DescribeSpec) -> EmbeddingsRef:
    """Return maps of features of the images; a row holds those of all positions, row by row.

    Args:
        images: The images.
        tower: Sees them.
        spec: How many positions there are.

    Raises:
        InputError: no image could be decoded.
    """
    towers = [map_tower(tower, side=spec.vision.side)]
    (maps,) = embed(images, towers, spec.labelling, label="Map images")
    return maps
