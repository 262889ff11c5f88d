"""Settings of a nightly run."""

from pydantic import Field

from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec, Spec


class NightlySpec(Spec):
    """What to adapt to night after night, and when it is worth it."""

    adapt: CoftSpec = Field(
        description="The images, classes and settings; register_as names the model."
    )
    held_out: PoolSpec | None = Field(
        None,
        description="Labelled images that the gate compares on. By default those of the run: its "
        "test images where it has labels, else where both models agree.",
    )
    min_new: int = Field(
        100, ge=1, description="Adapt when so many images are new since the last adaptation."
    )
    max_drift: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Adapt earlier when a larger share of the new images, of 20 at least, is less "
        "like any class than 99 % of the images before.",
    )
    prefer_newer: bool = Field(
        default=False, description="Promote also where the difference may be chance."
    )
    webhook: str | None = Field(
        None, description="Name of a Prefect webhook block that the digest is posted to."
    )

    @property
    def runtime(self) -> RuntimeSpec:
        """Return where the night is spent."""
        return self.adapt.runtime
