"""Orchestration: what of `coft embed`'s time is neither work on images nor the start of servers."""

from tests.bench.measure import seconds
from tests.bench.pipeline import Bench, EmbedRun, actor_here, sweep_all
from tests.bench.rows import Row


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    run = bench.small_run(128 if bench.quick else 10_000)
    actor = actor_here(bench, bench.folder / "small-embeddings-here")
    sweep_all(actor, run.parts[:1])  # warm-up
    here = seconds(lambda: sweep_all(actor, run.parts))
    return _rows(run, here)


def _rows(run: EmbedRun, here: float) -> list[Row]:
    sweep, scan = run.at_work("sweep"), run.at_work("scan")
    rest = run.wall - run.start - scan
    of = f"of {run.wall:.1f} s for {run.num_images:,} images; scanning them took {scan:.1f} s"
    return [
        Row(
            "orchestration : wall time",
            "s",
            rest - sweep,
            run.wall,
            (rest - sweep) / run.wall,
            at_most=0.05,
            note=f"{of}, the actors worked {sweep:.1f} s; the rest, without the start",
        ),
        Row(
            "orchestration : wall time, actors as in process",
            "s",
            rest - here,
            run.wall,
            (rest - here) / run.wall,
            at_most=0.05,
            note=f"the same shards took {here:.1f} s in this process, later and once",
        ),
        Row(
            "start and end of Prefect, Ray and actor : wall time",
            "s",
            run.start,
            run.wall,
            run.start / run.wall,
            note="the same for any number of images",
        ),
    ]
