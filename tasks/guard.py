"""Where a run ends: CLIP itself, Phase I, or an epoch of Phase II mixed with it.

What each of them says of the images that Phase II held out is judged, and no label is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import JsonValue
from torch import Tensor

from clipcore.coft.guard import PHASE_1, ZERO_SHOT, Candidate, choose, coherence, unread
from tasks.pool.shards import shards
from tasks.progress import say
from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, PeerRef, TaskRef
from tasks.specs import Phase2Spec
from tasks.storage.checkpoints import read_tensors
from tasks.storage.columns import class_numbers
from tasks.storage.layout import HELD_OUT_LOGITS


@dataclass(frozen=True)
class Choice:
    """What a run ends in, and what there was to choose from."""

    best: Candidate
    candidates: tuple[Candidate, ...]

    @property
    def facts(self) -> dict[str, JsonValue]:
        """Return the choice as JSON has it."""
        listed: list[JsonValue] = [
            {"what": name_of(one), "coherence": round(one.coherence, 4)} for one in self.candidates
        ]
        return {"ends_in": name_of(self.best), "candidates": listed}


@dataclass(frozen=True)
class _Judged:
    """Held-out images as CLIP sees them: features, and the classes that it puts them in."""

    ids: pa.Array
    features: Tensor
    labels: Tensor


def choose_end(  # noqa: PLR0913  # what speaks for or against an end
    networks: Sequence[PeerRef],
    zero_shot: LabelsRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    spec: Phase2Spec,
    *,
    class_embeddings: Tensor,
    with_zero_shot: bool,
) -> Choice:
    """Judge everything that a run may end in, and choose.

    Args:
        networks: Both networks of Phase II.
        zero_shot: CLIP's own labels.
        embeddings: The images as CLIP sees them.
        images: The images.
        task: The classes.
        spec: How many epochs there are, and which mixes; without held-out images the last is taken.
        class_embeddings: By which CLIP labels images.
        with_zero_shot: Whether the run may end in CLIP itself.
    """
    ids = read_tensors(networks[0].uri)[1]["images"]
    judged = _seen_by_clip(pa.array(ids, pa.string()), embeddings, zero_shot, images, task)
    features = unread(judged.features, class_embeddings)

    def candidate(epoch: int, alpha: float, labels: Tensor) -> Candidate:
        measured = coherence(labels, features, num_classes=len(task.classes))
        return Candidate(epoch, alpha, measured)

    found = [candidate(ZERO_SHOT, 0.0, judged.labels)] if with_zero_shot else []
    for epoch in range(max(1, spec.epochs)):  # the first one knows Phase I
        logits = [read_tensors(one.uri, HELD_OUT_LOGITS.format(epoch))[0] for one in networks]
        for name in logits[0]:
            labels = _mean_labels([one[name] for one in logits], ids, judged.ids)
            alpha = float(name)
            found.append(candidate(epoch if alpha else PHASE_1, alpha, labels))
    last = max(found, key=lambda one: (one.epoch, one.alpha))
    best = choose(found, num_images=len(judged.ids)) if spec.holdout else last
    choice = Choice(best, tuple(sorted(found, key=lambda one: (one.epoch, one.alpha))))
    _say(choice, len(judged.ids))
    return choice


def _seen_by_clip(
    wanted: pa.Array,
    embeddings: EmbeddingsRef,
    zero_shot: LabelsRef,
    images: ImagesRef,
    task: TaskRef,
) -> _Judged:
    ids, features, labels = list[str](), list[Tensor](), list[Tensor]()
    for shard in shards(images, embeddings, zero_shot):
        found, seen = shard.features(split="pool")
        said = shard.read(1, ["label"], "pool")["label"]  # of all that are embedded
        is_judged = pc.is_in(found, wanted)
        ids += found.filter(is_judged).to_pylist()
        features.append(seen[torch.from_numpy(is_judged.to_numpy(zero_copy_only=False))])
        labels.append(class_numbers(task.classes, said.filter(is_judged)))
        if len(ids) == len(wanted):
            break
    return _Judged(pa.array(ids, pa.string()), torch.cat(features), torch.cat(labels))


def _mean_labels(logits: Sequence[Tensor], ids: Sequence[str], judged: pa.Array) -> Tensor:
    """Return the classes in which the networks' mean softmax puts the judged images."""
    rows = pc.index_in(judged, pa.array(ids, pa.string())).to_pylist()
    return torch.stack([one[rows].softmax(dim=1) for one in logits]).mean(dim=0).argmax(dim=1)


def name_of(candidate: Candidate) -> str:
    """Return what a run that chose a candidate ends in, as a person says it."""
    if candidate.epoch == ZERO_SHOT:
        return "zero-shot"
    if candidate.epoch == PHASE_1:
        return "Phase I"
    part = "" if candidate.alpha == 1 else f", {candidate.alpha:.0%} of the way from Phase I"
    return f"epoch {candidate.epoch + 1} of Phase II{part}"


def _say(choice: Choice, num_images: int) -> None:
    measured = ", ".join(
        f"{name_of(one)} {one.coherence:.3f}"
        for one in choice.candidates
        if one.epoch < 0 or one == choice.best
    )
    say(
        f"Guard: the run ends in {name_of(choice.best)}; coherence on {num_images:,} held-out "
        f"images: {measured}"
    )
