"""Embed images: features for each image and tower, computed once."""

from collections.abc import Sequence

from tasks.features.embedding import embed
from tasks.features.towers import tower_of
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, PeerRef, Ref
from tasks.specs import CoftSpec
from tasks.storage.stage import step


@step("embed pool")
def embed_pool(
    images: ImagesRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    *,
    learned: Sequence[Ref] = (),
    name: str | None = None,
) -> EmbeddingsRef:
    """Return the features of the images; what the tower has seen before is not computed again.

    Args:
        images: The images.
        backbone: Whose visual tower it is.
        spec: Limits of the images, and where to run.
        learned: Folders of weights that go on the tower, one after the other.
        name: What to call that tower.

    Raises:
        InputError: no image could be decoded.
    """
    tower = tower_of(backbone, learned, name=name)
    (features,) = embed(images, [tower], spec, label=f"Embed with {tower.name}")
    return features


@step("embed with peers")
def embed_with_peers(
    images: ImagesRef, backbone: BackboneRef, peers: Sequence[PeerRef], spec: CoftSpec
) -> tuple[EmbeddingsRef, ...]:
    """Return the images as each peer sees them; they are decoded once for all peers."""
    towers = [
        tower_of(
            backbone, [peer], name=f"peer {peer.peer}{f', round {peer.round}' * (peer.round > 0)}"
        )
        for peer in peers
    ]
    return embed(images, towers, spec, label="Embed with peers")
