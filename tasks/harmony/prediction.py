"""What a prediction is refused for before anything slow begins."""

from tasks.annotations.spelling import fold
from tasks.backbone import check_backbone
from tasks.harmony.files import find_files
from tasks.harmony.known import KnownState
from tasks.harmony.record import existing_state
from tasks.harmony.specs import PredictSpec
from tasks.harmony.unknown import check_beginning
from tasks.pool.listed import hand_over, understand
from tasks.refs import ModelKind
from tasks.specs import InputError
from tasks.tracking.registry_model import check_kind, evidence_of, is_registered
from tasks.tracking.versions import MODALITIES


def check_asked(spec: PredictSpec) -> None:
    """Refuse a prediction without a state or without samples, or with two of one.

    Raises:
        InputError: says what to add or to leave out.
    """
    if (spec.state is None) == (spec.model is None):
        raise InputError("give --state FOLDER, or --model models:/NAME@ALIAS: one of them.")
    if (spec.pool is None) == (spec.embeddings is None):
        raise InputError("give --images, or --embeddings with features: one of them.")


def check_prediction(spec: PredictSpec) -> PredictSpec:
    """Refuse a prediction that cannot be made as it was asked for; return it with what is meant.

    What a registered model has learned is known when its files are here: its run looks at that.

    Args:
        spec: The prediction.

    Raises:
        InputError: says what to change.
    """
    check_asked(spec)
    if spec.model is not None:
        meant = check_kind(spec.model, spec.runtime, ModelKind.HARMONY)
        spec = spec.model_copy(update={"model": meant})
        if is_registered(meant) and spec.modality is not None:
            _check_told(spec.modality, evidence_of(meant, spec.runtime).get(MODALITIES))
    known = _known(spec)
    if known is not None:
        _check_against(known, spec)
    if spec.pool is not None:
        hand_over(spec.pool, understand(spec.pool, for_training=False), for_training=False)
    elif spec.embeddings is not None:
        find_files(spec.embeddings)
    return spec


def _check_against(known: KnownState, spec: PredictSpec) -> None:
    """Refuse samples that cannot be of what was learned."""
    if spec.modality is not None:
        known.named(spec.modality)
    if spec.embeddings is not None:
        for uri in find_files(spec.embeddings):
            check_beginning(uri, known, spec.modality)
    elif (tower := known.tower_elsewhere(spec.modality)) is not None:
        check_backbone(tower.name)


def _check_told(modality: str, learned: str | None) -> None:
    """Refuse a modality that the names in the registry, one text, cannot be the names of."""
    if learned is not None and fold(modality) not in fold(learned):
        msg = f"--modality: expected one of the modalities {learned}, got {modality!r}"
        raise InputError(msg)


def _known(spec: PredictSpec) -> KnownState | None:
    """Return what a state or a model's folder has learned; None for a model of the registry."""
    if spec.state is not None:
        return KnownState.of_stages(existing_state(spec.state))
    if spec.model is None or is_registered(spec.model):
        return None
    return KnownState.of_folder(spec.model)
