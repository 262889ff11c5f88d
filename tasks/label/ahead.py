"""What the quick method `fast` makes of the images, told before anything is trained.

How right it is cannot be said without labels: of ten estimates the best one was up to nine points
off (tests/bench/RESULTS.md, "The arena"). What is certain is in how many images it differs from
zero-shot, and so by how much their accuracies can differ.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipcore.baselines.evidence import Evidence
from clipcore.baselines.propagated import fast
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.label.by_head import read_head
from tasks.pool.shards import Shard, shards
from tasks.progress import say
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, Ref, TaskRef
from tasks.specs import CoftSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json, write_json
from tasks.storage.layout import AHEAD, Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join

MOST, MOST_SCORES = 10_000, 5_000_000  # images that are looked at, and what they have of classes
SHOWN = 5  # classes whose shares change most


class Ahead(Spec):
    """Zero-shot beside `fast` on images of the pool: how many, and how many in each class."""

    num_images: int
    num_changed: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    def lines(self, classes: tuple[str, ...]) -> list[str]:
        """Return what is certain, in words."""
        if not self.num_images:
            return []
        share = 100 * self.num_changed / self.num_images
        said = (
            f"Before training: --method fast puts {self.num_changed:,} of {self.num_images:,} "
            f"images ({share:.1f}%) in another class than zero-shot, so that the accuracies of "
            f"both are at most {share:.1f} points apart; how right they are only labels tell."
        )
        moved = self._moved(classes)
        return [said, f"Shares, zero-shot to fast: {', '.join(moved)}."] if moved else [said]

    def _moved(self, classes: tuple[str, ...]) -> list[str]:
        """Return the classes whose shares change most, with both shares."""
        changes = [after - before for before, after in zip(self.before, self.after, strict=True)]
        order = sorted(range(len(changes)), key=lambda number: (-abs(changes[number]), number))
        shares = [
            (classes[number], *(own[number] / self.num_images for own in (self.before, self.after)))
            for number in order[:SHOWN]
            if changes[number]
        ]
        return [f"{name} {before:.1%} to {after:.1%}" for name, before, after in shares]


@step("look ahead")
def look_ahead(
    zero_shot: LabelsRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> Ref:
    """Tell what `fast` makes of the pool; it takes a few seconds, once.

    Args:
        zero_shot: CLIP's own labels, and the head that gave them.
        embeddings: The images as CLIP sees them. Of many the first 10,000 are looked at, fewer of
            more than 500 classes: ids are hashes, so that they are a fair draw.
        images: Which they are; test images are not looked at.
        task: The classes.
        backbone: Whose features they are.
        spec: Where to run.
    """
    digest = fingerprint("ahead", zero_shot.digest, embeddings.digest, images.digest, MOST)
    folder = in_workspace(spec.runtime.workspace, Folder.EVALUATIONS, digest)

    def compute() -> Outcome:
        job = (folder, zero_shot.uri, shards(images, embeddings), task.classes, backbone.name)
        list(run_tasks(_write, [job], runtime=spec.runtime))
        return Outcome(parts=())

    kind = Folder.EVALUATIONS
    manifest, resumed = once(folder, kind=kind, digest=digest, label="Look ahead", compute=compute)
    for line in Ahead.model_validate(read_json(join(folder, AHEAD))).lines(task.classes):
        say(line)
    return Ref(uri=folder, digest=digest, seconds=manifest.seconds, resumed=resumed)


def _write(
    folder: str, zero_shot: str, parts: Sequence[Shard], classes: tuple[str, ...], backbone: str
) -> None:
    head, most = read_head(zero_shot), min(MOST, MOST_SCORES // len(classes))
    seen, count = list[Tensor](), 0
    for part in parts:
        seen.append(part.features(split="pool")[1])
        count += len(seen[-1])
        if count >= most:
            break
    x = torch.cat(seen)[:most]
    evidence = Evidence(
        pool=x,
        test=x[:0],
        sentences=head.embeddings[None],
        logit_scale=head.logit_scale,
        classes=classes,
        load_backbone=lambda: load_backbone(backbone),
    )
    write_json(join(folder, AHEAD), beside_zero_shot(evidence).model_dump())


def beside_zero_shot(evidence: Evidence) -> Ahead:
    """Return what zero-shot and `fast` say of the pool."""
    x, classes = evidence.pool, evidence.classes
    before = evidence.zero_shot.predict(x)[0]
    after = fast(evidence, 0).pool.argmax(dim=1) if len(x) else before
    return Ahead(
        num_images=len(x),
        num_changed=int((before != after).sum()),
        before=tuple(before.bincount(minlength=len(classes)).tolist()),
        after=tuple(after.bincount(minlength=len(classes)).tolist()),
    )
