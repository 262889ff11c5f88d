"""The methods by the names that people use for them."""

from collections.abc import Mapping

from clipcore.baselines.evidence import LabelledMethod, Method
from clipcore.baselines.zero_shot import sentence_ensemble, zero_shot

METHODS: Mapping[str, Method] = {
    "zero-shot": zero_shot,
    "sentence-ensemble": sentence_ensemble,
}

LABELLED_METHODS: Mapping[str, LabelledMethod] = {}
