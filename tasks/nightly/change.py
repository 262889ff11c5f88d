"""How much has changed since the last adaptation: new images, and how many of them are strange.

The statistic: the champion sorts all images into its classes. The centre of a class is the mean
direction of the embeddings of the images before; how like an image is to the classes is its cosine
with the nearest centre. An image is foreign where that is lower than for 99 % of the images before;
drift is the share of foreign images among the new ones. Without drift it is 1 %.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.nightly.specs import NightlySpec
from tasks.pool.readers import iter_images, uris_of
from tasks.pool.shards import ID, Shard, shards
from tasks.progress import say
from tasks.query.outlying import Centres, centres
from tasks.refs import EmbeddingsRef, ImagesRef, PredictionsRef
from tasks.specs import InputError, Spec
from tasks.storage.columns import matrix_of
from tasks.storage.files import exists, read_json, write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import find_finished, step
from tasks.storage.uris import redact

LAST = "last.json"
QUANTILE = 0.01
_ENOUGH_FOR_DRIFT = 20  # new images; of fewer a share says little
NUM_FOREIGN = 12  # that a digest names and shows
NUM_DRAWN = 16  # of the new ones, drawn by their ids, which are digests


class NewImage(Spec):
    """An image that nothing was adapted to before."""

    image_id: str
    uri: str
    label: str = Field(description="The nearest class.")
    cosine: float


class Change(Spec):
    """What is new, and whether it is enough to adapt again."""

    num_images: int
    num_new: int
    first: bool = Field(description="Whether nothing was adapted before.")
    enough: bool
    drift: float | None = None
    by_class: dict[str, int] = Field(
        default_factory=dict, description="New images by the class that they are most like."
    )
    foreign: tuple[NewImage, ...] = Field(
        (), description="Of the new ones, those that are like no class, strangest first."
    )
    drawn: tuple[NewImage, ...] = Field((), description="Some of the new ones, by chance.")

    @property
    def text(self) -> str:
        """Return what is new, as a sentence."""
        new = f"{self.num_new:,} of {self.num_images:,} images are new since the last adaptation"
        if self.first:
            return f"{self.num_images:,} images, the first that are adapted to."
        if self.drift is None:
            return f"{new}."
        return (
            f"{new}; {self.drift:.0%} of them are less like any class than 99 % of the images "
            "before (without drift 1 %)."
        )


@step("measure change")
def measure_change(
    images: ImagesRef,
    embeddings: EmbeddingsRef,
    predictions: PredictionsRef | None,
    spec: NightlySpec,
) -> Change:
    """Compare the images with those of the last adaptation.

    Args:
        images: All images of today.
        embeddings: Theirs.
        predictions: What the champion says of them; None where there is none.
        spec: When it is enough.
    """
    last = last_images(spec)
    before = _ids(last) if last is not None else pa.array([], pa.string())
    num_images = images.num_pool + images.num_test
    num_new = num_images - sum(
        int(pc.sum(pc.is_in(ids, before)).as_py() or 0) for ids in _all(images)
    )
    change = Change(
        num_images=num_images,
        num_new=num_new,
        first=last is None,
        enough=last is None or num_new >= spec.min_new,
    )
    if last is not None and predictions is not None and num_new:
        change = look(change, images, last, embeddings, predictions)
    drifted = change.drift is not None and change.drift > spec.max_drift
    enough = change.enough or (drifted and num_new >= _ENOUGH_FOR_DRIFT)
    say(f"{change.text} {'Enough' if enough else 'Not enough'} to adapt again.")
    return change.model_copy(update={"enough": enough})


def look(
    change: Change,
    images: ImagesRef,
    last: ImagesRef | None,
    embeddings: EmbeddingsRef,
    predictions: PredictionsRef,
) -> Change:
    """Return the change with what the new images look like; all are new where `last` is None."""
    before = shards(last or images, embeddings, predictions)
    classes = centres(before)
    if not classes.names:  # nothing of before is left
        return change
    known = np.concatenate([cosines for _, _, cosines in _likeness(before, classes)])
    limit = float(np.quantile(known, QUANTILE))
    old = pa.array([], pa.string()) if last is None else _ids(last)
    strangest: list[tuple[float, str, str]] = []
    drawn: list[tuple[float, str, str]] = []
    labels, num_foreign = Counter[str](), 0
    for ids, names, cosines in _likeness(shards(images, embeddings, predictions), classes):
        new = pc.invert(pc.is_in(ids, old)).to_numpy(zero_copy_only=False)
        rows = list(
            zip(cosines[new].tolist(), ids.filter(new).to_pylist(), names[new], strict=True)
        )
        strange = [row for row in rows if row[0] < limit]
        labels.update(names[new].tolist())
        num_foreign += len(strange)
        strangest = heapq.nsmallest(NUM_FOREIGN, [*strangest, *strange])
        drawn = heapq.nsmallest(NUM_DRAWN, [*drawn, *rows], key=lambda row: row[1])
    update = {
        "drift": num_foreign / max(1, sum(labels.values())) if last is not None else None,
        "by_class": dict(labels.most_common()),
        "foreign": _named(images, strangest),
        "drawn": _named(images, drawn),
    }
    return change.model_copy(update=update)


def _named(images: ImagesRef, rows: Sequence[tuple[float, str, str]]) -> tuple[NewImage, ...]:
    uris = uris_of(images, [image for _, image, _ in rows])
    return tuple(
        NewImage(image_id=image, uri=redact(uri), label=name, cosine=round(cosine, 3))
        for uri, (cosine, image, name) in zip(uris, rows, strict=True)
    )


def last_images(spec: NightlySpec) -> ImagesRef | None:
    """Return the images of the last adaptation; None before the first one, or if they are gone."""
    file = _file(spec)
    if not exists(file):
        return None
    last = ImagesRef.model_validate(read_json(file))
    return last if find_finished(last.uri, last.uri.rpartition("/")[2]) is not None else None


def remember(images: ImagesRef, spec: NightlySpec) -> None:
    """Note that these images were adapted to."""
    write_json(_file(spec), images.model_dump(mode="json"))


def model_name(spec: NightlySpec) -> str:
    """Return the name of the model.

    Raises:
        InputError: there is none.
    """
    if spec.adapt.register_as is None:
        raise InputError("register_as: a nightly run needs the name of the model in the registry")
    return spec.adapt.register_as


def _file(spec: NightlySpec) -> str:
    workspace = spec.adapt.runtime.workspace
    return in_workspace(workspace, Folder.NIGHTLY, model_name(spec), LAST)


def _all(images: ImagesRef) -> Iterator[pa.Array]:
    for table in iter_images(images, [ID]):
        yield table[ID].combine_chunks()


def _ids(images: ImagesRef) -> pa.Array:
    return pa.concat_arrays([*_all(images), pa.array([], pa.string())])


def _likeness(
    parts: Sequence[Shard], classes: Centres
) -> Iterator[tuple[pa.Array, np.ndarray, np.ndarray]]:
    """Yield ids, the nearest class of each, and the cosine with its centre."""
    for part in parts:
        table = part.read(0, [ID, "embedding"])
        if table.num_rows:
            best = (matrix_of(table) @ classes.directions.T).max(dim=1)
            names = np.array(classes.names, dtype=object)[best.indices.numpy()]
            yield table[ID].combine_chunks(), names, best.values.numpy()
