"""What rounds and simulations are refused for, told before anything that takes time is loaded."""

from typing import Any

from clipcore.active.strategy_names import UnknownStrategy, check_strategy
from clipcore.backbone_names import Kind, UnsupportedBackbone
from tasks.active.specs import LearnerSpec, SimulationSpec
from tasks.annotations.reading import read_answers
from tasks.backbone import adapter_arguments
from tasks.specs import AdapterSpec, InputError, PoolSpec, RuntimeSpec
from tasks.storage.files import exists
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import absolute, join
from tasks.tracking.champion import pinned
from tasks.tracking.store import tracking_for

COLUMN = "column"  # the oracle that knows the labels of the images themselves
NO_LABELS = (
    f"--oracle {COLUMN}: the images carry no labels. Name a file of answers about them, or start "
    "rounds with --labels."
)


def check_learner(spec: LearnerSpec, kind: Kind) -> None:
    """Refuse a learner that a kind of tower cannot carry.

    Raises:
        InputError: visual prompts or LoRA are asked for on a tower without tokens.
    """
    if spec.on_features:
        return
    try:
        learner_adapter(spec, kind)
    except UnsupportedBackbone as error:
        raise InputError(f"--learner.kind {spec.kind}: {error}") from error


def learner_adapter(spec: LearnerSpec, kind: Kind) -> dict[str, Any]:
    """Return the arguments of `adapters.attach` for a learner that works through the tower.

    Raises:
        UnsupportedBackbone: the learner needs another kind of tower.
    """
    if spec.kind == "maple":
        adapter = AdapterSpec(name="vpt", num_visual_prompts=spec.coupled_tokens)
        return {**adapter_arguments(adapter, kind), "depth": spec.coupled_depth}
    if spec.kind == "vpt":
        return adapter_arguments(spec.adapter.model_copy(update={"name": "vpt"}), kind)
    return adapter_arguments(spec.adapter, kind)


def check_strategies(*names: str, option: str) -> None:
    """Refuse a name that stands for no strategy.

    Raises:
        InputError: names the option, and the strategies that there are.
    """
    for name in names:
        try:
            check_strategy(name)
        except UnknownStrategy as error:
            raise InputError(f"{option}: {error.args[0]}.") from error


def check_simulation(spec: SimulationSpec) -> None:
    """Refuse, before any work, what cannot be simulated.

    Raises:
        InputError: a strategy is unknown, or the data set is not asked for its labels.
    """
    if spec.active.run.pool.labels is None:
        raise InputError(
            "A simulation answers its own questions: expected --labels folders, column or a file, "
            "got none."
        )
    check_strategies(*spec.strategies, option="--strategies")


def check_oracle(oracle: str, pool: PoolSpec) -> None:
    """Refuse who cannot answer queries.

    Raises:
        InputError: the images carry no labels, or the file cannot be read as answers.
    """
    if oracle != COLUMN:
        read_answers(oracle, (), pool.label_columns)
    elif pool.labels is None:
        raise InputError(NO_LABELS)


def settle_start(start: str, runtime: RuntimeSpec) -> str:
    """Return where rounds start, so that it means the same tomorrow: a version, a whole path.

    Raises:
        InputError: it is none of phase1, zero-shot, a registered model, or a model's folder.
    """
    if start in ("phase1", "zero-shot"):
        return start
    if start.startswith("models:/"):
        return pinned(tracking_for(runtime.workspace), start)
    if not exists(join(start, DESCRIPTION)):
        raise InputError(
            f"--start {start}: expected phase1, zero-shot, models:/NAME@ALIAS or /3, or a "
            f"folder with a {DESCRIPTION}. `coft models list` shows what is registered."
        )
    return absolute(start)
