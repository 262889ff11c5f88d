"""The methods by the names that people use for them."""

from collections.abc import Mapping

from clipcore.baselines.clap import clap
from clipcore.baselines.clip_lora import clip_lora
from clipcore.baselines.coop import coop
from clipcore.baselines.deft import deft
from clipcore.baselines.dpa import dpa
from clipcore.baselines.evidence import LabelledMethod, Method
from clipcore.baselines.fpl import fpl, grip, ifpl
from clipcore.baselines.gda import few_shot_gda, unsupervised_gda
from clipcore.baselines.inmap import inmap
from clipcore.baselines.lafter import lafter
from clipcore.baselines.lafter_text import lafter_text
from clipcore.baselines.linear_probe import linear_probe
from clipcore.baselines.maple import maple
from clipcore.baselines.must import must
from clipcore.baselines.propagated import (
    fast,
    label_propagation,
    propagated_gda,
    propagated_stata,
)
from clipcore.baselines.self_training import self_training
from clipcore.baselines.stata import stata
from clipcore.baselines.tip_adapter import tip_adapter, tip_adapter_f
from clipcore.baselines.transclip import transclip
from clipcore.baselines.ueo import ueo
from clipcore.baselines.upl import upl
from clipcore.baselines.vpt import vpt
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
    "self-training": self_training,
    "upl": upl,
    "fpl": fpl,
    "ifpl": ifpl,
    "grip": grip,
    "ueo": ueo,
    "dpa": dpa,
    "lafter-text": lafter_text,
    "lafter": lafter,
    "must": must,
    "deft": deft,
}
"""Those that no label of an image is given to."""

LABELLED_METHODS: Mapping[str, LabelledMethod] = {
    "gda": few_shot_gda,
    "linear-probe": linear_probe,
    "tip-adapter": tip_adapter,
    "tip-adapter-f": tip_adapter_f,
    "coop": coop,
    "clap": clap,
    "clip-lora": clip_lora,
    "vpt": vpt,
    "maple": maple,
}
"""Those that learn from answers of people."""
