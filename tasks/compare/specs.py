"""Settings of a comparison: which methods, how often, at which class balances."""

from typing import Literal

from pydantic import Field, field_validator

from clipcore.baselines.method_names import FEATURE_NAMES
from tasks.specs import CoftSpec, RuntimeSpec, Spec

Balance = Literal["as-is", "uniform", "long-tail", "half-absent"]
FLOWS = ("coft", "coft-plus")
"""Methods that are whole flows: they train towers, and measure as they do alone."""


class ArenaSpec(Spec):
    """What is compared with what."""

    methods: tuple[str, ...] = Field(
        FEATURE_NAMES,
        description="Split by commas; by default all without labels that look at features alone. "
        "coft and coft-plus may be named too.",
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

    def runs_of(self, method: str) -> list[CoftSpec]:
        """Return a whole run of a method for each seed; none of them is registered."""
        return [
            self.run.model_copy(
                update={"method": method, "seed": self.run.seed + number, "register_as": None}
            )
            for number in range(self.seeds)
        ]
