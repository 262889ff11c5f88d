"""One pass of a model over the pool: actors hold it, parts are the unit of work and of resume."""

from typing import Any

from tasks.compute.cluster import actors, ensure_ray, run_on_actors
from tasks.compute.placement import shares
from tasks.progress import progress, say
from tasks.refs import PoolRef
from tasks.specs import RuntimeSpec
from tasks.storage.files import exists
from tasks.storage.manifest import Part, part_name
from tasks.storage.stage import Outcome, finished
from tasks.storage.tables import count_rows
from tasks.storage.uris import join

QUARANTINE = "quarantine"


def sweep(
    actor_class: type, job: Any, pool: PoolRef, runtime: RuntimeSpec, *, label: str
) -> Outcome:
    """Write the parts of a stage that are absent, one for each part of the pool.

    Args:
        actor_class: Made from (job, device); `sweep_part(images_uri, name)` writes
            `<folder>/<name>` last and returns how many images it went through.
        job: Has `folder` and `digest`.
        pool: The images.
        runtime: Where to run.
        label: What the person is told.
    """
    source = finished(pool.uri)
    names = [part_name(number, job.digest) for number, _ in enumerate(source.parts)]
    missing = [
        (part, name)
        for part, name in zip(source.parts, names, strict=True)
        if not exists(join(job.folder, name))
    ]
    if 0 < len(missing) < len(names):
        say(f"{label}: {len(names) - len(missing)} of {len(names)} shards were finished before")
    if missing:
        ensure_ray(runtime)
        share = shares(runtime, most=len(missing))
        items = [(join(pool.uri, part.name), name) for part, name in missing]
        with (
            actors(actor_class, [(job, share.device)] * share.num_actors, share) as started,
            progress(label, sum(part.rows for part, _ in missing)) as advance,
        ):
            for _, images in run_on_actors(started, "sweep_part", items):
                advance(images)
    bad = [_count(join(job.folder, QUARANTINE, name)) for name in names]
    return Outcome(
        parts=[Part(name=name, rows=_count(join(job.folder, name))) for name in names],
        facts={"quarantined": sum(bad), "pool": pool.digest},
    )


def _count(uri: str) -> int:
    return count_rows(uri) if exists(uri) else 0
