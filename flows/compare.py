"""The arena: every method beside every other, on one data set."""

from prefect import flow

from flows.adapt import adapted
from tasks.backbone import find_backbone
from tasks.compare.arena import ComparisonRef, compare_methods, read_comparison
from tasks.compare.cells import Sources
from tasks.compare.checks import check_arena, check_looked_at, check_measurable
from tasks.compare.listings import cut_images, pool_of_cut
from tasks.compare.specs import FLOWS, Balance, CompareSpec, Whole
from tasks.embed import embed_pool
from tasks.features.image_pixels import Reading
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.progress import say
from tasks.refs import RunSummary
from tasks.run import tracked
from tasks.sentences.embedded import embed_sentences
from tasks.sentences.given import given_sentences
from tasks.specs import GaveUp, InputError, PoolSpec
from tasks.storage.disk_errors import is_out_of_room
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
    check_looked_at(spec)
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
        sources = Sources(images, embeddings, task, text, backbone, Reading.of(about))
        whole = run_whole(spec, sources)
        found = compare_methods(sources, spec, run, whole)
    record_finished(about.runtime.workspace)
    best = read_comparison(found).best
    if about.register_as is not None and best is not None:
        adapted(spec.run_of(best))
    return found


def run_whole(spec: CompareSpec, sources: Sources) -> list[tuple[Whole, RunSummary | str]]:
    """Run every method that is a flow of its own, with every seed at every balance."""
    if not set(FLOWS) & set(spec.methods):
        return []
    cuts: dict[Balance, PoolSpec] = {
        balance: pool_of_cut(spec.run.pool, cut_images(sources, spec, balance))
        for balance in spec.balance
        if balance != "as-is"
    }
    return [(one, tried(one)) for one in spec.whole_runs(cuts)]


def tried(one: Whole) -> RunSummary | str:
    """Return what came of a run, or why it failed: the other ones go on, the next try may not.

    Raises:
        InputError: what was asked for has to be corrected.
        GaveUp: what all runs need did not come.
        OSError: the disk is full.
    """
    try:
        return adapted(one.run)
    except (InputError, GaveUp):
        raise
    except Exception as error:  # a row that says so, not the end of all others
        if is_out_of_room(error):
            raise
        why = f"{type(error).__name__}: {error}"
        say(f"{one.method}, seed {one.seed}, {one.balance}: {why}")
        return why
