"""The images behind features, for methods that tune the image tower: read when they are asked for.

An image is decoded once into the run's cache on this machine, and comes from there in each pass.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
from torch import Tensor

from clipcore.baselines.evidence import ImagePixels
from clipcore.fit import PixelLoader
from clipcore.images import Preprocess
from tasks.images.pixels import pixels_of_run
from tasks.images.training_pixels import TrainingPixels
from tasks.pool.readers import uris_of
from tasks.refs import ImagesRef
from tasks.specs import CoftSpec, PoolSpec


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        limits: The largest file and image.
        pixel_cache: Bytes of this machine's disk for decoded images.
        flip: Whether a mirrored image shows the same class.
    """

    limits: PoolSpec
    pixel_cache: int | None
    flip: bool

    @classmethod
    def of(cls, spec: CoftSpec) -> "Reading":
        """Return what a run says of it."""
        return cls(spec.pool, spec.runtime.pixel_cache, spec.flip)


def pixels_behind(  # which images, and how they are read
    images: ImagesRef,
    pool: pa.Array,
    test: pa.Array,
    reading: Reading,
    preprocess: Callable[[], Preprocess],
    *,
    device: str = "cpu",
) -> Callable[[], ImagePixels]:
    """Return how a method gets at the images; nothing is read before it does.

    Args:
        images: Which they are.
        pool: Ids of those to learn from, in the order of their features.
        test: Ids of those that are classified only.
        reading: How they are read.
        preprocess: Returns the input of the tower.
        device: Where the tower is.
    """

    def loader(ids: pa.Array) -> PixelLoader:
        @cache
        def opened() -> TrainingPixels:
            names = ids.to_pylist()
            how = pixels_of_run(preprocess(), reading.limits, reading.pixel_cache, device=device)
            return TrainingPixels(how, names, uris_of(images, names))

        def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
            return opened().load(batches)

        return load

    return lambda: ImagePixels(loader(pool), loader(test), flip=reading.flip)
