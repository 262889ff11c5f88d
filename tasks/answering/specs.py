"""Settings of the page on which people answer."""

import getpass

from pydantic import Field

from tasks.specs import Spec


def _who() -> str:
    """Return who is at work here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return "somebody"


class PageSpec(Spec):
    """Where the page is served, and for whom."""

    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 for all.")
    port: int = Field(
        0, ge=0, le=65535, description="By default a free one, the same one each time if it is."
    )
    annotator: str = Field(
        default_factory=_who,
        min_length=1,
        max_length=100,
        description="Whose answers they are, unless the page is told another name.",
    )
    overlap: int = Field(1, gt=0, le=20, description="People who answer each image.")
    no_browser: bool = Field(default=False, description="Open no browser, only print the address.")


class AskSpec(Spec):
    """Which images people are asked about, other than those of active rounds; one kind of them."""

    below: float | None = Field(
        None, gt=0, le=1, description="Predictions of a lower confidence; 0.6 by default."
    )
    confused: str | None = Field(
        None,
        description="'cat,dog': images that are one of both to the model, and maybe the other.",
    )
    disagreements: bool = Field(
        default=False, description="Images that two models label differently."
    )
    quarantine: bool = Field(default=False, description="Files that were refused, and why.")
    as_test: bool = Field(
        default=False,
        description="A random sample of all predictions: how right is the model, and is it better "
        "than zero-shot? What the models say is not shown.",
    )
    most: int = Field(500, gt=0, le=100_000, description="Images at most.")
    name: str | None = Field(
        None, description="Under which the answers are kept; by default the kind of the questions."
    )
    pool: str | None = Field(
        None, description="Start of the digest of images; the newest by default."
    )
    seed: int = Field(0, ge=0, description="Of the sample that is drawn with --as-test.")

    @property
    def kinds(self) -> list[str]:
        """Return which kinds of questions were asked for, as options."""
        named = ("below", "confused", "disagreements", "quarantine", "as_test")
        return [
            name.replace("_", "-") for name in named if getattr(self, name) not in (None, False)
        ]

    @property
    def kind(self) -> str:
        """Return the kind of the questions."""
        return self.kinds[0] if self.kinds else "below"
