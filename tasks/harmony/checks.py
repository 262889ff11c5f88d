"""What a stage is refused for before anything slow begins."""

from tasks.backbone import check_backbone
from tasks.harmony.backbones import tower_of_stage
from tasks.harmony.files import MODALITY, find_files, is_features
from tasks.harmony.record import StateRef, read_state
from tasks.harmony.specs import BeginSpec, StageSpec
from tasks.images.parquet import read_schema
from tasks.pool.listed import hand_over, understand
from tasks.specs import InputError
from tasks.storage.uris import redact
from tasks.tracking.registry_model import check_kind


def check_request(spec: StageSpec) -> None:
    """Refuse a stage without samples, or of images without labels.

    Raises:
        InputError: says what to add or to leave out.
    """
    if (spec.pool is None) == (spec.embeddings is None):
        raise InputError("give --images of the modality, or --embeddings: one of them.")
    labelled = spec.pool is not None and spec.pool.labels is not None
    if spec.pool is not None and labelled == (spec.predicted is not None):
        raise InputError(
            "--images: a stage learns from labels; add --labels folders, --labels column or "
            "--labels FILE, or else --predicted.model: a model that knows images of this look."
        )
    if spec.predicted is not None and spec.pool is None:
        raise InputError("--predicted.model labels images, not features; leave it out.")


def check_stage(spec: StageSpec) -> None:
    """Refuse a stage that cannot be learned as it was asked for; images are listed for it.

    Raises:
        InputError: says what to change.
    """
    check_request(spec)
    state = read_state(spec.state)
    _check_later(spec, state)
    check_tests(spec.tests, (*state.modalities, spec.modality))
    check_backbone(tower_of_stage(spec, state).name)
    if spec.embeddings is not None:
        find_files(spec.embeddings)
    if spec.predicted is not None:
        check_kind(spec.predicted.model, spec.runtime)
    if spec.pool is not None:
        labelled = spec.predicted is None
        hand_over(spec.pool, understand(spec.pool, for_training=labelled), for_training=labelled)


def check_tests(tests: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Refuse test data that is not there, or of which nobody says whose it is.

    Args:
        tests: Parquet files of features, or NAME=URI.
        names: Of all modalities, that which is to be learned among them.

    Raises:
        InputError: says which, and what to write.
    """
    for text in tests:
        name, uri = split_name(text, names)
        if name is None or is_features(uri):
            for table in find_files(uri):
                if name is None and MODALITY not in read_schema(table).names:
                    raise InputError(
                        f"--test {redact(text)}: {redact(table)} has no column {MODALITY}; write "
                        f"--test NAME={redact(uri)}, where NAME is one of {', '.join(names)}"
                    )


def split_name(text: str, names: tuple[str, ...]) -> tuple[str | None, str]:
    """Return the modality before the equals sign, if one is there, and what comes after it.

    Raises:
        InputError: what stands before the sign is no modality.
    """
    name, sign, uri = text.partition("=")
    if name in names:
        return name, uri
    if sign and not any(mark in name for mark in "/.:"):
        known = ", ".join(names)
        raise InputError(f"--test {redact(text)}: expected one of {known} before =, got {name!r}")
    return None, text


def _check_later(spec: StageSpec, state: StateRef) -> None:
    """Refuse settings of the first stage at a later one."""
    if state.last is None or state.stages[0].record.modality == spec.modality:
        return
    begun = state.last.record.begin
    if spec.begin not in (begun, BeginSpec()):
        raise InputError(
            f"--begin.*: the first stage of {spec.state} decided that: trunk {begun.trunk}, "
            f"template {begun.template!r}; leave it out, or begin another --state."
        )
