"""The page of captions: what was learned, from what, how far it goes, and a gallery."""

from dataclasses import dataclass, fields

from tasks.compute.calls import run_tasks
from tasks.describe.language import LanguageRef
from tasks.describe.measure import Measured
from tasks.describe.publish import SOURCES
from tasks.describe.refs import CaptionsRef, VisionRef
from tasks.describe.shown import choose
from tasks.describe.specs import DescribeSpec
from tasks.pages.html import render
from tasks.refs import ImagesRef, LabelsRef, PredictionsRef
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.uris import join, redact

PAGE = "report.html"
TEMPLATE = "describe/captions.html.j2"
HONEST = (
    "At this size a language model that sees is no better classifier than CLIP or a linear probe "
    "on the same features, which cost next to nothing. Of 25 classes of Tiny ImageNet it named "
    "74.0 % of the test images rightly after 3,840 true labels; a linear probe with these labels "
    "had 79.6 %, CLIP without any 73.1 %; after the 1,600 labels that CLIP was surest of, as "
    "here, it had 67.0 %. What it adds is words: sentences under prompts that it "
    "was not taught, and a second opinion to look at. It says the names that it was taught and no "
    "others, and it changes no label."
)


@dataclass(frozen=True)
class Described:
    """What a page tells of.

    Attributes:
        captions: All that was said.
        vision: What says it.
        clean: What that was learned from.
        classified: What the classifier says.
        images: Which images there are.
        classes: Among which is chosen.
        language: The language model.
        measured: How often all are right, where it is known.
        spec: What was asked for.
    """

    captions: CaptionsRef
    vision: VisionRef
    clean: LabelsRef
    classified: LabelsRef | PredictionsRef
    images: ImagesRef
    classes: tuple[str, ...]
    language: LanguageRef
    measured: Measured | None
    spec: DescribeSpec


def write_page(told: Described) -> str:
    """Write the page of a run, and return where it is."""
    spec = told.spec
    digest = fingerprint("page of captions", told.captions.digest, spec.confused, told.measured)
    uri = join(in_workspace(spec.runtime.workspace, Folder.REPORTS, digest), PAGE)
    list(run_tasks(_write, [(uri, told)], runtime=spec.runtime))
    return uri


def _write(uri: str, told: Described) -> None:
    spec = told.spec
    page = render(
        TEMPLATE,
        **{field.name: getattr(told, field.name) for field in fields(told)},
        title="What the images show, in words",
        source=SOURCES[told.clean.source],
        classifier=redact(spec.model) if spec.model else f"{spec.backbone.name}, zero-shot",
        shown=choose(
            told.captions,
            told.classified,
            told.images,
            told.classes,
            confused=spec.confused,
            max_pixels=spec.pool.max_pixels,
        ),
        honest=HONEST,
        prompts=spec.prompts,
    )
    write_bytes(uri, page.encode())
