"""The methods by the names that people use for them."""

from collections.abc import Mapping

from clipcore.baselines.evidence import LabelledMethod, Method
from clipcore.baselines.gda import few_shot_gda, unsupervised_gda
from clipcore.baselines.inmap import inmap
from clipcore.baselines.propagated import (
    fast,
    label_propagation,
    propagated_gda,
    propagated_stata,
)
from clipcore.baselines.stata import stata
from clipcore.baselines.transclip import transclip
from clipcore.baselines.zero_shot import sentence_ensemble, zero_shot
from clipcore.baselines.zlap import zlap

METHODS: Mapping[str, Method] = {
    "zero-shot": zero_shot,
    "sentence-ensemble": sentence_ensemble,
    "label-propagation": label_propagation,
    "zlap": zlap,
    "transclip": transclip,
    "stata": stata,
    "lp-stata": propagated_stata,
    "inmap": inmap,
    "unsupervised-gda": unsupervised_gda,
    "lp-gda": propagated_gda,
    "fast": fast,
}
"""Those that no label of an image is given to."""

LABELLED_METHODS: Mapping[str, LabelledMethod] = {
    "gda": few_shot_gda,
}
"""Those that learn from answers of people."""
