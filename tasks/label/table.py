"""The table of pseudo-labels: its columns, one task for each part, the best over all parts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import JsonValue
from torch import Tensor

from clipcore import cleaning
from tasks.compute.map_parts import write_missing
from tasks.progress import say
from tasks.refs import AnswersRef, ImagesRef, LabelsRef, TaskRef
from tasks.specs import RuntimeSpec
from tasks.storage.columns import class_names
from tasks.storage.digests import classes_digest
from tasks.storage.layout import Folder
from tasks.storage.manifest import Part
from tasks.storage.ranges import Span
from tasks.storage.schemas import LABELS
from tasks.storage.stage import Outcome, once
from tasks.storage.tables import count_rows, read_facts, write_table
from tasks.storage.uris import join

_MERGED_AT = 4  # times as many images as can be chosen
KEPT = "kept"  # in the facts of a part: how many of its labels were kept


@dataclass(frozen=True)
class Target:
    """Which part of which labelling a task writes: the images of a range of ids."""

    folder: str
    digest: str
    span: Span

    @property
    def name(self) -> str:
        """Return the file's name in the folder."""
        return self.span.file_name(self.digest)

    @property
    def uri(self) -> str:
        """Return where the part is written."""
        return join(self.folder, self.name)


PartOf = tuple[Target, *tuple[Any, ...]]
"""A part to write, and the other arguments of the function that writes it."""


@dataclass(frozen=True)
class TopOfPart:
    """The highest scores of each class in one part: few per class, so they fit in memory."""

    image_ids: list[str]
    labels: Tensor
    scores: Tensor


def top_of_part(
    ids: Any, labels: Tensor, scores: Tensor, *, num_classes: int, per_class: int
) -> TopOfPart:
    """Return the highest scores of each class in one part, at most `per_class` of each.

    Ids come in rising order: of equal scores the lowest id counts.
    """
    chosen = cleaning.top_k_per_class(scores, labels, num_classes=num_classes, per_class=per_class)
    image_ids = pc.take(ids, pa.array(chosen.numpy())).to_pylist()
    return TopOfPart(image_ids, labels[chosen], scores[chosen])


def merge_top(tops: Iterable[TopOfPart], *, num_classes: int, per_class: int) -> dict[str, int]:
    """Return image id -> label of the best over all parts; the best of bests is exact.

    They are merged as they come, so that memory depends on the classes and not on the parts.
    """
    waiting, count = list[TopOfPart](), 0
    for top in tops:
        waiting.append(top)
        count += len(top.image_ids)
        if count > _MERGED_AT * num_classes * per_class:
            waiting = [_best_of(waiting, num_classes=num_classes, per_class=per_class)]
            count = len(waiting[0].image_ids)
    if not count:
        return {}
    best = _best_of(waiting, num_classes=num_classes, per_class=per_class)
    return dict(zip(best.image_ids, best.labels.tolist(), strict=True))


def _best_of(tops: Sequence[TopOfPart], *, num_classes: int, per_class: int) -> TopOfPart:
    """Return the highest scores of each class; of equal ones the lowest id counts."""
    ids = [image for top in tops for image in top.image_ids]
    by_id = torch.tensor(sorted(range(len(ids)), key=ids.__getitem__))
    labels = torch.cat([top.labels for top in tops])[by_id]
    scores = torch.cat([top.scores for top in tops])[by_id]
    names = pa.array(sorted(ids), pa.string())
    return top_of_part(names, labels, scores, num_classes=num_classes, per_class=per_class)


def digests(answers: AnswersRef | None) -> list[str]:
    """Return what answers add to the digest of a labelling; nothing where nobody was asked."""
    return [] if answers is None else [answers.digest]


def labels_table(  # noqa: PLR0913  # the columns of the contract
    ids: Any,
    source: str,
    labels: Tensor,
    confidence: Tensor,
    *,
    classes: Sequence[str],
    kept: np.ndarray,
    gap: Tensor | None = None,
    reasons: Sequence[str] | None = None,
) -> pa.Table:
    """Return rows with the schema of every labelling; no reasons means that all were kept."""
    rows = len(labels)
    columns = [
        ids,
        pa.array([source] * rows, pa.string()),
        class_names(classes, labels),
        pa.array(confidence.numpy(), pa.float32()),
        pa.nulls(rows, pa.float32()) if gap is None else pa.array(gap.numpy(), pa.float32()),
        pa.array(kept),
        pa.array(reasons or [""] * rows, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)


def write_part(target: Target, table: pa.Table) -> int:
    """Write one part, and return how many images it is about."""
    kept = int(pc.sum(table["kept"]).as_py() or 0)
    write_table(target.uri, table, {"digest": target.digest, KEPT: str(kept)})
    return int(table.num_rows)


def label_parts(
    function: Callable[..., int],
    items: Sequence[PartOf],
    *,
    label: str,
    total: int,
    runtime: RuntimeSpec,
    about: Mapping[str, JsonValue],
) -> Outcome:
    """Call a function that ends in `write_part` for the parts that are absent; refer to all.

    Args:
        function: Writes a part.
        items: Its arguments for each part.
        label: What the person reads.
        total: Images of all parts.
        runtime: Where to run.
        about: What the labels are about, for the manifest.
    """
    work = {target.uri: (target, *rest) for target, *rest in items}
    write_missing(function, work, runtime, label=label, total=total)
    targets = [target for target, *_ in items]
    return Outcome(
        parts=[Part(name=target.name, rows=count_rows(target.uri)) for target in targets],
        facts={**about, KEPT: sum(int(read_facts(target.uri)[KEPT]) for target in targets)},
    )


def labelling_facts(images: ImagesRef, task: TaskRef) -> dict[str, JsonValue]:
    """Return, for a manifest, what labels are about: which images, and which classes."""
    return {"images": images.digest, "classes": classes_digest(task.classes)}


def labels_once(folder: str, digest: str, source: str, compute: Callable[[], Outcome]) -> LabelsRef:
    """Compute a labelling, or find it finished."""
    label = f"Labels {source}"
    kind = Folder.LABELS
    manifest, resumed = once(folder, kind=kind, digest=digest, label=label, compute=compute)
    kept = int(str(manifest.facts[KEPT]))
    say(f"{label}: {kept:,} of {manifest.rows:,} kept")
    return LabelsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        source=source,
        num_kept=kept,
    )
