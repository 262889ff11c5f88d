"""What was listed and read of the input, handed on in a process: a bucket is listed once.

A command hands what it understood to the run that it starts, and the images hand it to the
task. Each is taken once; who finds nothing lists anew.
"""

from tasks.pool.splits import find_splits
from tasks.pool.true_labels import check_input, list_sources
from tasks.pool.understood import ClassList, Understood
from tasks.specs import PoolSpec

_understood: dict[tuple[PoolSpec, bool], Understood] = {}
_images: dict[str, Understood] = {}  # by the folder of the images, which names the listing


def understand(spec: PoolSpec, *, for_training: bool) -> Understood:
    """List the images; for a training also read and check class names and labels.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    if for_training:
        return check_input(spec)
    sources = tuple(list_sources(spec))
    splits = find_splits(sources[0], spec.split_folders, strict=False)
    return Understood(sources, ClassList(names=(), origin=""), split_folders=splits)


def hand_over(spec: PoolSpec, found: Understood, *, for_training: bool) -> None:
    """Keep what was understood just now for the run that is about to begin in this process."""
    _understood[spec, for_training] = found


def handed_over(spec: PoolSpec, *, for_training: bool) -> Understood | None:
    """Return what waits for the run that is about to begin; it still waits."""
    return _understood.get((spec, for_training))


def take_understood(spec: PoolSpec, *, for_training: bool) -> Understood:
    """Return what was handed over, or what `understand` returns now."""
    found = _understood.pop((spec, for_training), None)
    return understand(spec, for_training=for_training) if found is None else found


def hand_on(folder: str, found: Understood) -> None:
    """Keep what images in a folder of the workspace were made from, for the step that follows."""
    _images[folder] = found


def take_images(folder: str) -> Understood | None:
    """Return what was handed on; None where nothing was."""
    return _images.pop(folder, None)
