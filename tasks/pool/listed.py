"""What a command has listed, for the run that it starts: a bucket of millions is listed once."""

from collections.abc import Sequence

from tasks.images.sources import Source
from tasks.pool.true_labels import list_sources
from tasks.specs import PoolSpec

_listed: dict[PoolSpec, tuple[Source, ...]] = {}


def hand_over(spec: PoolSpec, sources: Sequence[Source]) -> None:
    """Keep what was listed just now for the run that is about to begin in this process."""
    _listed[spec] = tuple(sources)


def take_sources(spec: PoolSpec) -> Sequence[Source]:
    """Return what was handed over, once; list the images where nothing was."""
    return _listed.pop(spec, None) or list_sources(spec)
