"""Register a bundle in the model registry once, with the evidence for or against it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.storage.files import local_copy
from tasks.tracking.packaging import bundle_digest, check_bundle, write_model
from tasks.tracking.redaction import redact_fields
from tasks.tracking.runs import Run
from tasks.tracking.store import Tracking, alone, connect
from tasks.tracking.versions import (
    CANDIDATE,
    CHAMPION,
    DIGEST,
    HEALTHY,
    TAG,
    RegisteredModel,
    aliases_of,
    check_name,
    find_version,
)

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_MAX_TAG = 4000  # characters; MLflow takes 5000


def register_model(
    run: Run, bundle: str | Path, *, name: str, healthy: bool, evidence: Mapping[str, object]
) -> RegisteredModel:
    """Register a bundle as a version of `name`; the same bundle only once.

    A run that is continued after a kill, or repeated, records no file twice and returns the
    version that exists.

    Args:
        run: The open run that made the bundle.
        bundle: Folder of a model, of any kind, local or in a bucket.
        name: Name of the model in the registry; created if absent.
        healthy: Whether the version may become candidate.
        evidence: Reasons; they become tags `coft.<name>` and the description of the version.

    Raises:
        InputError: a name that MLflow does not allow, or a folder that is not a clean bundle.
    """
    check_name(name)
    client = connect(run.tracking)
    with local_copy(str(bundle)) as folder:
        check_bundle(folder)
        digest = bundle_digest(folder)
        tags = _tags(digest, evidence, healthy=healthy)
        with alone(run.tracking):
            version = _find_registered(run, name, digest)
            if version is None:
                logged = _find_logged(run, digest)
                if logged is None or logged.status != "READY":
                    logged = _log_model(run, folder, logged or _new_model(run, name, digest))
                version = _create_version(run, name, logged, tags)
    number = str(version.version)  # an int in some stores
    with alone(run.tracking):  # whoever promotes takes this alias away
        if healthy and aliases_of(run.tracking, name).get(CHAMPION) != number:
            client.set_registered_model_alias(name, CANDIDATE, number)
    return find_version(run.tracking, name, number)


def add_evidence(
    tracking: Tracking, model: RegisteredModel, evidence: Mapping[str, object]
) -> None:
    """Add reasons to the tags and the description of a version; of the same name the newer one."""
    client = connect(tracking)
    fields = {f"{TAG}{key}": text[:_MAX_TAG] for key, text in redact_fields(evidence).items()}
    for key, text in fields.items():
        client.set_model_version_tag(model.name, model.version, key, text)
    own = {f"{TAG}{key}": text for key, text in model.evidence.items()}
    client.update_model_version(model.name, model.version, _description({**own, **fields}))


def _description(tags: Mapping[str, str]) -> str:
    return "\n".join(f"- {key.removeprefix(TAG)}: {tags[key]}" for key in tags)


def _find_registered(run: Run, name: str, digest: str) -> "ModelVersion | None":
    """Return the version that holds these files, whichever run registered it."""
    versions = connect(run.tracking).search_model_versions(f"name = '{name}'")
    return next((version for version in versions if version.tags.get(DIGEST) == digest), None)


def _find_logged(run: Run, digest: str) -> "LoggedModel | None":
    """Return the model that a killed run had begun, or even recorded, before it was a version."""
    models = connect(run.tracking).search_logged_models(
        [run.experiment_id],
        filter_string=f"source_run_id = '{run.run_id}' and tags.`{DIGEST}` = '{digest}'",
    )
    return min(models, key=lambda model: model.status != "READY", default=None)


def _new_model(run: Run, name: str, digest: str) -> "LoggedModel":
    return connect(run.tracking).create_logged_model(
        run.experiment_id, name=name, source_run_id=run.run_id, tags={DIGEST: digest}
    )


def _log_model(run: Run, bundle: Path, logged: "LoggedModel") -> "LoggedModel":
    """Record the model folder under the run; its status becomes READY when all files are there."""
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415 # slow to import

    client = connect(run.tracking)
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        target = Path(folder) / "model"
        write_model(target, bundle, logged)
        client.log_model_artifacts(logged.model_id, str(target))
    outputs = client.get_run(run.run_id).outputs
    recorded = () if outputs is None else outputs.model_outputs
    if logged.model_id not in {output.model_id for output in recorded}:
        client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def _create_version(
    run: Run, name: str, logged: "LoggedModel", tags: dict[str, str]
) -> "ModelVersion":
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # slow to import

    client = connect(run.tracking)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Tags are set with the version, not after it, so that none lacks its evidence. The source is a
    # location, because MLflow looks up "models:/m-..." in the global store, not in the run's.
    return client.create_model_version(
        name,
        logged.artifact_location,
        run.run_id,
        tags=tags,
        description=_description(tags),
        model_id=logged.model_id,
    )


def _tags(digest: str, evidence: Mapping[str, object], *, healthy: bool) -> dict[str, str]:
    fields = {f"{TAG}{key}": text[:_MAX_TAG] for key, text in redact_fields(evidence).items()}
    return {**fields, HEALTHY: str(healthy).lower(), DIGEST: digest}
