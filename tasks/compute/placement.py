"""How many actors a stage gets, and what each asks for."""

from dataclasses import dataclass

import ray

from tasks.specs import InputError, RuntimeSpec


@dataclass(frozen=True)
class Share:
    """What each actor of a stage holds while it lives."""

    num_actors: int
    num_cpus: float
    num_gpus: float

    @property
    def device(self) -> str:
        """Return the torch device that the actor works on."""
        return "cuda" if self.num_gpus else "cpu"


def shares(runtime: RuntimeSpec, *, most: int | None = None, split: int = 1) -> Share:
    """Return how many actors a stage gets and what each holds.

    Args:
        runtime: May fix the number of actors and the GPUs of each.
        most: The most actors that the stage can use.
        split: Into how many a single device is divided when the stage needs actors side by side.

    Raises:
        InputError: more was asked for than the cluster has, which would wait forever.
    """
    have = ray.cluster_resources()
    gpus, cpus = have.get("GPU", 0.0), have.get("CPU", 1.0)
    if runtime.num_gpus * (runtime.num_actors or 1) > gpus:
        raise InputError(
            f"Asked for {runtime.num_actors or 1} actors with {runtime.num_gpus:g} GPUs each, but "
            f"the Ray cluster has {gpus:g}. Lower --num-gpus or --num-actors, or name a cluster "
            "with --ray-address."
        )
    if gpus:
        each = runtime.num_gpus or (1.0 if gpus >= split else gpus / split)
        number = runtime.num_actors or max(1, int(gpus / each))
    else:
        each = 0.0
        number = runtime.num_actors or max(split, int(cpus) // 8)
    number = min(number, most) if most else number
    return Share(max(1, number), max(1.0, cpus // number), each)
