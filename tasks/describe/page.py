"""The page of captions: what was learned, from what, how far it goes, and a gallery."""

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
    "on the same features, which cost next to nothing. Of 25 classes a caption named 74.2 % of "
    "test images rightly where zero-shot had 75.7 % and a probe 78.8 %. What it adds is words: "
    "sentences under prompts that it was not taught, and a second opinion to look at. It says the "
    "names that it was taught and no others, and it changes no label."
)


def write_page(  # noqa: PLR0913, PLR0917  # what a page tells
    captions: CaptionsRef,
    vision: VisionRef,
    clean: LabelsRef,
    classified: LabelsRef | PredictionsRef,
    images: ImagesRef,
    classes: tuple[str, ...],
    language: LanguageRef,
    measured: Measured | None,
    spec: DescribeSpec,
) -> str:
    """Write the page, and return where it is."""
    digest = fingerprint("page of captions", captions.digest, spec.confused, measured)
    uri = join(in_workspace(spec.runtime.workspace, Folder.REPORTS, digest), PAGE)
    job = (uri, captions, vision, clean, classified, images, classes, language, measured, spec)
    list(run_tasks(_write, [job], runtime=spec.runtime))
    return uri


def _write(  # noqa: PLR0913, PLR0917  # as `write_page`
    uri: str,
    captions: CaptionsRef,
    vision: VisionRef,
    clean: LabelsRef,
    classified: LabelsRef | PredictionsRef,
    images: ImagesRef,
    classes: tuple[str, ...],
    language: LanguageRef,
    measured: Measured | None,
    spec: DescribeSpec,
) -> None:
    shown = choose(
        captions,
        classified,
        images,
        classes,
        confused=spec.confused,
        max_pixels=spec.pool.max_pixels,
    )
    page = render(
        TEMPLATE,
        title="What the images show, in words",
        captions=captions,
        vision=vision,
        clean=clean,
        source=SOURCES[clean.source],
        language=language,
        classifier=redact(spec.model) if spec.model else f"{spec.backbone.name}, zero-shot",
        measured=measured,
        shown=shown,
        num_classes=len(classes),
        honest=HONEST,
        spec=spec,
        prompts=spec.prompts,
    )
    write_bytes(uri, page.encode())
