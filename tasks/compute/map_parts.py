"""Write the parts of a stage that are absent: by functions, or by models that workers hold."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tasks.compute.calls import run_on_held, run_tasks
from tasks.compute.worker import Held
from tasks.progress import progress, say
from tasks.specs import RuntimeSpec
from tasks.storage.files import exists


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


def map_parts(  # what the person sees beside what is done
    actor_class: type,
    job: Any,
    items: Iterable[tuple[Any, ...]],
    runtime: RuntimeSpec,
    *,
    label: str,
    total: int,
) -> None:
    """Hand items to workers that hold a model, and show how far they are.

    Args:
        actor_class: Made from (job, device); `write_part(*item)` writes a part last and returns how
            many images it went through.
        job: What the actors are made from.
        items: The parts to write.
        runtime: Where to run.
        label: What the person reads.
        total: Images of all items.
    """
    held = Held(actor_class, (job,))
    with progress(label, total) as advance:
        for _, images in run_on_held(held, "write_part", items, runtime=runtime):
            advance(images)


def _say_finished(label: str, missing: int, total: int) -> None:
    if 0 < missing < total:
        say(f"{label}: {total - missing} of {total} shards were finished before")
