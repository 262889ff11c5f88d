"""The methods by the names that people use for them."""

from collections.abc import Mapping

from clipcore.baselines.clap import clap
from clipcore.baselines.coop import coop
from clipcore.baselines.dpa import dpa
from clipcore.baselines.evidence import LabelledMethod, Method
from clipcore.baselines.fpl import fpl, grip, ifpl
from clipcore.baselines.lafter_text import lafter_text
from clipcore.baselines.linear_probe import linear_probe
from clipcore.baselines.self_training import self_training
from clipcore.baselines.tip_adapter import tip_adapter, tip_adapter_f
from clipcore.baselines.ueo import ueo
from clipcore.baselines.upl import upl
from clipcore.baselines.zero_shot import sentence_ensemble, zero_shot

METHODS: Mapping[str, Method] = {
    "zero-shot": zero_shot,
    "sentence-ensemble": sentence_ensemble,
    "self-training": self_training,
    "upl": upl,
    "fpl": fpl,
    "ifpl": ifpl,
    "grip": grip,
    "ueo": ueo,
    "dpa": dpa,
    "lafter-text": lafter_text,
}

LABELLED_METHODS: Mapping[str, LabelledMethod] = {
    "linear-probe": linear_probe,
    "tip-adapter": tip_adapter,
    "tip-adapter-f": tip_adapter_f,
    "coop": coop,
    "clap": clap,
}
