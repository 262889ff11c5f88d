"""What `coft describe` leaves in MLflow, and what it tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from tasks.describe.classify import MODEL
from tasks.describe.language import LanguageRef
from tasks.describe.measure import Measured
from tasks.describe.refs import CaptionsRef, VisionRef
from tasks.describe.specs import DescribeSpec
from tasks.refs import ImagesRef, LabelsRef, TaskRef
from tasks.specs import Spec
from tasks.storage.digests import fingerprint
from tasks.tracking.runs import Run, log_file, log_metrics, open_until_done, start_run
from tasks.tracking.store import EXPERIMENT, tracking_for

SOURCES = {
    "confident": "most confident labels of CLIP's zero-shot",
    f"confident-{MODEL}": "surest labels of the classifier",
}


class DescribeSummary(Spec):
    """What `--summary` writes."""

    captions: str = Field(description="Folder of Parquet: a row for each image.")
    num_images: int
    num_differing: int = Field(description="Images that the classifier calls otherwise.")
    num_labels: int = Field(description="That were learned from; of no person.")
    source: str = Field(description="Of these labels.")
    llm: str
    llm_sha256: str
    measured: Measured | None
    words: dict[str, float] = Field(description="How the discrete words of images came out.")
    model_uri: str | None
    run_id: str
    report: str


@contextmanager
def tracked_captions(
    spec: DescribeSpec, images: ImagesRef, task: TaskRef, language: LanguageRef
) -> Iterator[Run]:
    """Open the MLflow run of this flow for the block, or go on with the one that was killed."""
    inputs = spec.model_dump(exclude={"runtime", "command", "pool", "llm"})
    run = start_run(
        tracking_for(spec.runtime.workspace),
        experiment=EXPERIMENT,
        name=f"describe-{Path(spec.pool.images).stem or 'images'}",
        digest=fingerprint("describe", images.digest, task.digest, language.sha256, inputs),
        params=spec.model_dump(exclude={"command"}),
    )
    with open_until_done(run):
        yield run


def publish_captions(  # noqa: PLR0913  # what a run came to
    run: Run,
    captions: CaptionsRef,
    vision: VisionRef,
    clean: LabelsRef,
    language: LanguageRef,
    *,
    measured: Measured | None,
    report: str,
    model: str | None,
) -> DescribeSummary:
    """Record what came of a run, and return it."""
    shares = {} if measured is None else measured.model_dump(exclude={"on_test"})
    log_metrics(run, {**vision.facts, **shares, "num_differing": captions.num_differing})
    log_file(run, report)
    return DescribeSummary(
        captions=captions.uri,
        num_images=captions.rows,
        num_differing=captions.num_differing,
        num_labels=clean.num_kept - vision.num_left_out,
        source=SOURCES[clean.source],
        llm=language.name,
        llm_sha256=language.sha256,
        measured=measured,
        words=vision.facts,
        model_uri=model,
        run_id=run.run_id,
        report=report,
    )
