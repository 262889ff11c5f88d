"""`--paper`: CoFT and CoFT+ with the choices of their paper, for comparisons with its numbers.

The paper (https://arxiv.org/abs/2602.04337) takes K images of each class by rank alone, starts
Phase II from the original weights of CLIP, and trains it to its end: no guard, no mix with Phase I,
no class that is helped to more labels. It gives no K and no number of epochs; 16 is what methods
like it take, 10 the number of the code that it builds on (DeFT). AdamW in Phase II is ours.
"""

from typing import Any, TypeVar

from tasks.plan.settings import OF_COFT, not_seen
from tasks.specs import CoftSpec, Spec

AnySpec = TypeVar("AnySpec", bound=Spec)

PAPER: dict[str, Any] = {
    "label": {"templates": ("a photo of a {}.",), "top": {"per_class": 16, "min_total": 0}},
    "phase1": {"epochs": 10, "min_steps": 0},
    "phase2": {
        "start": "original",
        "epochs": 10,
        "min_kept": 0,
        "wise_alphas": (1.0,),
        "holdout": 0.0,
    },
    "plus": {"neighbours": {"k": 0}},
}
"""What differs from the defaults, by the names of the options."""


def as_in_paper(spec: CoftSpec) -> CoftSpec:
    """Return a run with the paper's choices wherever the person said nothing else.

    Raises:
        InputError: the method is not of the paper.
    """
    if spec.method not in OF_COFT:
        raise not_seen("--paper", spec.method, " or ".join(OF_COFT))
    changed = dict(PAPER)
    if spec.method != "coft-plus":
        del changed["plus"]
    return _changed(spec, changed)


def _changed(spec: AnySpec, values: dict[str, Any]) -> AnySpec:
    """Return a spec with other values for the fields that nobody set."""
    update: dict[str, object] = {}
    for name, value in values.items():
        own = getattr(spec, name)
        if isinstance(own, Spec):
            update[name] = _changed(own, value)
        elif name not in spec.model_fields_set:
            update[name] = value
    return spec.model_copy(update=update)
