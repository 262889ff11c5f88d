"""Write the parts of a stage that are absent: by functions, or by models that workers hold."""

from collections.abc import Callable, Mapping
from typing import Any

from tasks.compute.calls import run_on_held, run_tasks
from tasks.compute.worker import Held
from tasks.progress import progress, say
from tasks.refs import PoolRef
from tasks.specs import RuntimeSpec
from tasks.storage.files import exists
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import Part, part_name
from tasks.storage.stage import Outcome, finished
from tasks.storage.tables import count_rows
from tasks.storage.uris import join


def write_missing(  # noqa: PLR0913  # what the person sees beside what is done
    function: Callable[..., int],
    work: Mapping[str, tuple[Any, ...]],
    runtime: RuntimeSpec,
    *,
    label: str,
    total: int,
    unit: str = "images",
    single_threaded: bool = False,
) -> None:
    """Call a function in a worker for each file that is absent.

    Args:
        function: `function(*arguments)` writes the file and returns how many units it went through.
        work: The URI of each file, and the arguments of the call that writes it.
        runtime: Where to run.
        label: What the person reads.
        total: Units of all files.
        unit: What the person reads that they are.
        single_threaded: Whether a call uses one core, so that each core has a worker.
    """
    missing = [arguments for uri, arguments in work.items() if not exists(uri)]
    _say_finished(label, len(missing), len(work))
    if missing:
        with progress(label, total * len(missing) // len(work), unit=unit) as advance:
            for _, units in run_tasks(
                function, missing, runtime=runtime, single_threaded=single_threaded
            ):
                advance(units)


def map_parts(
    actor_class: type, job: Any, pool: PoolRef, runtime: RuntimeSpec, *, label: str
) -> Outcome:
    """Write the parts of a stage that are absent, one for each part of the pool.

    Args:
        actor_class: Made from (job, device); `write_part(images_uri, name)` writes
            `<folder>/<name>` last and returns how many images it went through.
        job: Has `folder` and `digest`.
        pool: The images.
        runtime: Where to run.
        label: What the person reads.
    """
    source = finished(pool.uri)
    names = [part_name(number, job.digest) for number, _ in enumerate(source.parts)]
    missing = [
        (part, name)
        for part, name in zip(source.parts, names, strict=True)
        if not exists(join(job.folder, name))
    ]
    _say_finished(label, len(missing), len(names))
    if missing:
        items = [(join(pool.uri, part.name), name) for part, name in missing]
        held = Held(actor_class, (job,))
        with progress(label, sum(part.rows for part, _ in missing)) as advance:
            for _, images in run_on_held(held, "write_part", items, runtime=runtime):
                advance(images)
    bad = [_count(join(job.folder, QUARANTINE, name)) for name in names]
    return Outcome(
        parts=[Part(name=name, rows=_count(join(job.folder, name))) for name in names],
        facts={"quarantined": sum(bad), "pool": pool.digest},
    )


def _say_finished(label: str, missing: int, total: int) -> None:
    if 0 < missing < total:
        say(f"{label}: {total - missing} of {total} shards were finished before")


def _count(uri: str) -> int:
    return count_rows(uri) if exists(uri) else 0
