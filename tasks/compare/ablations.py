"""CoFT and CoFT+ without one of their parts each, as methods of the arena.

The text of the paper (https://arxiv.org/abs/2602.04337) has no such table. What no setting leaves
out is Phase I: Phase II starts from the head that a peer has learned, and peers judge its labels.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from tasks.specs import Spec

AnySpec = TypeVar("AnySpec", bound=Spec)

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    # The negative prompts learn nothing, so that nothing is judged by them: all labels are kept.
    "coft:no-negative": {
        "phase1": {"dual": {"weight": 0.0}},
        "collaboration": {"judge": "none"},
    },
    "coft:one-peer": {"collaboration": {"num_peers": 1}},
    "coft:no-cross": {"collaboration": {"judge": "own"}},
    "coft:no-phase2": {"phase2": {"epochs": 0}},
    "coft:original-start": {"phase2": {"start": "original"}},
    "coft-plus:no-rounds": {"plus": {"rounds": 0}},
    "coft-plus:no-neighbours": {"plus": {"neighbours": {"k": 0}}},
    "coft-plus:no-contrast": {"plus": {"contrast": {"weight": 0.0}}},
    "coft-plus:no-sentences": {"sentences": {"synonyms": False}},
}
"""Settings of the run by the name of the ablation."""


def changed(spec: AnySpec, values: Mapping[str, Any]) -> AnySpec:
    """Return a spec with other values, those of the specs in it by the names of their fields."""
    update = {
        name: changed(getattr(spec, name), value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }
    return spec.model_copy(update=update)
