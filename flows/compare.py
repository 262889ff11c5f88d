"""The arena: every method beside every other, on one data set."""

from prefect import flow

from flows.adapt import adapted
from tasks.backbone import find_backbone
from tasks.compare.arena import ComparisonRef, compare_methods, read_comparison
from tasks.compare.checks import check_arena, check_measurable
from tasks.compare.specs import FLOWS, CompareSpec
from tasks.embed import embed_pool
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.run import tracked
from tasks.sentences.embedded import embed_sentences
from tasks.sentences.given import given_sentences
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="compare")
@in_turn
def compare(spec: CompareSpec) -> ComparisonRef:
    """Compare methods on the same images, backbone, features and seeds.

    With a name for the registry the best method of those without labels goes there, as `adapt`
    brings it: evaluated, judged by the gate, with a report.

    Args:
        spec: Images with labels and a test split, methods, seeds and balances.
    """
    check_arena(spec)
    about = spec.run
    backbone = find_backbone(about.backbone, about.runtime)
    images = open_images(about.pool, about.runtime)
    task = open_task(images, about.pool, about.runtime)
    check_measurable(images, task)
    sentences = given_sentences(task, backbone, about)
    with tracked(
        about, images, task, backbone, name="compare", more=spec, sentences=sentences
    ) as run:
        embeddings = embed_pool(images, backbone, about)
        text = embed_sentences(task, backbone, about, sentences)
        whole = {
            name: [adapted(one) for one in spec.runs_of(name)]
            for name in spec.methods
            if name in FLOWS
        }
        found = compare_methods(embeddings, images, task, backbone, text, spec, run, whole)
    record_finished(about.runtime.workspace)
    best = read_comparison(found).best
    if about.register_as is not None and best is not None:
        adapted(about.model_copy(update={"method": best}))
    return found
