"""Everything that `coft models promote` was asked to do."""

from pydantic import Field

from tasks.specs import GateSpec, PoolSpec, RuntimeSpec, Spec


class PromotionSpec(Spec):
    """A version that is to become champion, and on what it has to show that it is better."""

    name: str = Field(description="Of the model in the registry.")
    version: str | None = Field(None, description="Its number; by default that of the candidate.")
    pool: PoolSpec | None = Field(
        None,
        description="Images to compare the version with the champion on: with labels by accuracy, "
        "without labels by where both agree. Without images its own health decides.",
    )
    answers: str | None = Field(
        None, description="Labels that were learned from, as in adapt; they do not count."
    )
    gate: GateSpec = Field(GateSpec(), description="Bounds where there are no labels.")
    prefer_newer: bool = Field(
        default=False, description="Promote also where the difference may be chance."
    )
    force: bool = Field(default=False, description="Promote against the evidence.")
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")
