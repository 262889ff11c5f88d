"""Describe images: captions from a frozen language model that sees (Libra)."""

from prefect import flow

from tasks.describe.captions import write_captions
from tasks.describe.classify import classify
from tasks.describe.language import find_language
from tasks.describe.learn import learn_captions
from tasks.describe.maps import map_images
from tasks.describe.measure import measure_captions
from tasks.describe.page import Described, write_page
from tasks.describe.publish import DescribeSummary, publish_captions, tracked_captions
from tasks.describe.register import register_captions
from tasks.describe.specs import DescribeSpec
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="describe")
@in_turn
def describe(spec: DescribeSpec) -> DescribeSummary:
    """Write captions of images, learned from labels of no person (arXiv 2405.10140).

    The language model stays as it is, bit for bit, and no label is changed.

    Args:
        spec: Images, classes, the language model, and whose labels are learned.
    """
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    language = find_language(spec.llm, spec.runtime)
    with tracked_captions(spec, images, task, language) as run:
        classified, clean, tower = classify(images, task, spec)
        maps = map_images(images, tower, spec)
        vision = learn_captions(clean, maps, images, task, language, spec, run)
        captions = write_captions(vision, maps, classified, images, language, spec)
        measured = measure_captions(captions, images, task, spec.template)
        described = Described(
            captions=captions,
            vision=vision,
            clean=clean,
            classified=classified,
            images=images,
            classes=task.classes,
            language=language,
            measured=measured,
            spec=spec,
        )
        report = write_page(described)
        model = register_captions(run, vision, captions, tower, language, measured, spec)
        summary = publish_captions(
            run, captions, vision, clean, language, measured=measured, report=report, model=model
        )
    record_finished(spec.runtime.workspace)
    return summary
