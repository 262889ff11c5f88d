"""Labels that the peers of Phase I give to all images, from which a further round starts."""

from collections.abc import Sequence

from tasks.label.by_head import label_by_head, write_head
from tasks.label.confident import most_confident
from tasks.refs import (
    AnswersRef,
    ImagesRef,
    LabelsRef,
    Phase1Round,
    TaskRef,
)
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder
from tasks.storage.stage import step
from tasks.weights import read_dual_head


@step("label with peers")
def label_with_peers(
    last: Phase1Round, images: ImagesRef, task: TaskRef, spec: CoftSpec
) -> tuple[LabelsRef, ...]:
    """Label every image with each peer of a round, as its positive prompts say (CoFT+ 3.3).

    The labels are called by the round that starts from them.
    """
    return tuple(
        label_by_head(
            f"round-{peer.round + 1}-peer-{peer.peer}",
            fingerprint(Folder.LABELS, "peer", peer.digest, features.digest),
            _write_head,
            (peer.uri,),
            features,
            images,
            task,
            spec.runtime,
        )
        for peer, features in zip(last.peers, last.features, strict=True)
    )


def most_confident_of_peers(  # as `most_confident`
    labels: Sequence[LabelsRef],
    last: Phase1Round,
    images: ImagesRef,
    task: TaskRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
) -> tuple[LabelsRef, ...]:
    """Return what each peer of the next round learns from: the surest labels of each class.

    They are its own of the last round, or with `plus.subsets="crossed"` the other peer's.
    """
    sets = [
        most_confident(own, features, images, task, spec, answers)
        for own, features in zip(labels, last.features, strict=True)
    ]
    return tuple(sets if spec.plus.subsets == "own" else reversed(sets))


def _write_head(folder: str, peer: str) -> None:
    write_head(folder, read_dual_head(peer).positive)
