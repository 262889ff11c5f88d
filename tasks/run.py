"""The MLflow run of a flow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.refs import AnswersRef, BackboneRef, ImagesRef, SentencesRef, TaskRef
from tasks.specs import CoftSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.tracking.runs import Run, open_until_done, start_run
from tasks.tracking.store import EXPERIMENT, tracking_for


@contextmanager
def tracked(  # noqa: PLR0913  # what tells one run from another
    spec: CoftSpec,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    *,
    name: str | None = None,
    more: Spec | None = None,
    answers: AnswersRef | None = None,
    sentences: SentencesRef | None = None,
) -> Iterator[Run]:
    """Open the MLflow run of this flow for the block, or go on with the one that was killed.

    Args:
        spec: What was asked for.
        images: The images.
        task: The classes, and the labels for evaluation.
        backbone: The pretrained CLIP.
        name: What people call the run; by default the method and the images.
        more: What a flow was asked for beside `spec`; another value, another run.
        answers: What people said of the images; more of it, another run.
        sentences: Those that a person has chosen; others, another run.
    """
    inputs = spec.model_dump(exclude={"runtime", "command", "pool"})
    given = [ref.digest if ref else None for ref in (answers, sentences)]
    about = (images.digest, task.digest, backbone)
    digest = fingerprint("run", *about, inputs, name, more, given)
    added = {} if more is None else more.model_dump()
    run = start_run(
        tracking_for(spec.runtime.workspace),
        experiment=EXPERIMENT,
        name=name or f"{spec.method}-{Path(spec.pool.images).stem or 'images'}",
        digest=digest,
        params={**spec.model_dump(exclude={"command"}), **added},
    )
    with open_until_done(run):
        yield run
