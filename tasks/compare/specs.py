"""Settings of a comparison: which methods, how often, at which class balances."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from pydantic import Field, field_validator

from clipcore.baselines.method_names import FEATURE_NAMES
from tasks.compare.ablations import ABLATIONS, changed
from tasks.plan.settings import run_by
from tasks.specs import CoftSpec, Method, PoolSpec, RuntimeSpec, Spec

Balance = Literal["as-is", "uniform", "long-tail", "half-absent"]
COFT: tuple[Method, ...] = ("coft", "coft-plus")
FLOWS = (*COFT, *ABLATIONS)
"""Methods that are whole flows: they train towers."""


class Whole(NamedTuple):
    """One run of a method that is a whole flow: what a cell is for the others."""

    method: str
    seed: int
    balance: Balance
    run: CoftSpec


class ArenaSpec(Spec):
    """What is compared with what."""

    methods: tuple[str, ...] = Field(
        FEATURE_NAMES,
        description="Split by commas; by default all without labels that look at features alone. "
        "coft, coft-plus and their ablations (coft:no-cross) may be named too.",
    )
    seeds: int = Field(3, gt=0, le=100, description="Runs of each method, from --seed on.")
    balance: tuple[Balance, ...] = Field(
        ("as-is",),
        description="Cuts of the images by their labels, split by commas: as-is (none), uniform, "
        "long-tail (ratio 10), half-absent (no image of half of the classes).",
    )
    shots: int = Field(
        0, ge=0, description="Images of each class whose label methods with labels may learn from."
    )

    @field_validator("methods", "balance", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Take `zlap,stata` for two."""
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, list | tuple):
            words = [word.strip() for one in value for word in str(one).split(",")]
            return tuple(dict.fromkeys(words))
        return value


class CompareSpec(ArenaSpec):
    """Methods on the images of a run, with its backbone and class sentences."""

    run: CoftSpec = Field(description="Images, classes, labels, backbone, first seed.")

    @property
    def runtime(self) -> RuntimeSpec:
        """Return where it runs."""
        return self.run.runtime

    def whole_runs(self, cuts: Mapping[Balance, PoolSpec]) -> list[Whole]:
        """Return a run for each seed and balance of each method that is a flow, in this order.

        None of them is registered.

        Args:
            cuts: The images of each balance but those as they are.
        """
        found = []
        for balance in self.balance:
            pool = cuts.get(balance, self.run.pool)
            for method in (name for name in self.methods if name in FLOWS):
                for seed in range(self.run.seed, self.run.seed + self.seeds):
                    own = {"seed": seed, "pool": pool, "register_as": None}
                    run = self.run_of(method).model_copy(update=own)
                    found.append(Whole(method, seed, balance, run))
        return found

    def run_of(self, method: str) -> CoftSpec:
        """Return the run of any method by itself, an ablation with the settings that make it."""
        return changed(run_by(self.run, method_of(method)), ABLATIONS.get(method, {}))


def method_of(name: str) -> Method:
    """Return the method that a name of the arena is of: `coft` of `coft:no-cross`."""
    return cast("Method", name.partition(":")[0])
