"""A model by its registry URI or its folder, copied into the workspace for the workers."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.on_demand import OnDemand
from tasks.refs import ModelKind, ModelRef
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash, exists, local_copy, reaching, read_json, write_bytes
from tasks.storage.layout import DESCRIPTION, Folder, in_workspace
from tasks.storage.stage import step
from tasks.storage.uris import absolute, join, redact
from tasks.tracking.champion import download_bundle, pinned
from tasks.tracking.store import tracking_for
from tasks.tracking.versions import KIND, find_version

if TYPE_CHECKING:
    from clipcore import description
else:  # a check of names does not wait for PyTorch
    description = OnDemand("clipcore.description")

_HOW: Mapping[str, str] = {
    ModelKind.CLASSIFIER: "`coft predict --model {uri} --images ...` predicts with it",
    ModelKind.HARMONY: (
        "`coft harmony predict --model {uri} ...` predicts with it, and `coft serve` or "
        "`mlflow models serve` serve it"
    ),
    ModelKind.LIBRA: (
        "`coft serve --model {uri} --llm FOLDER` or `mlflow models serve` caption images with it, "
        "and `coft describe --images ...` those of a pool"
    ),
}


def is_registered(uri: str) -> bool:
    """Return whether a URI means a model of the registry, and no folder."""
    return uri.startswith("models:/")


def check_model(uri: str, runtime: RuntimeSpec) -> str:
    """Return what a URI means now, a version or a folder, before anything is loaded or fetched.

    Raises:
        InputError: no model has this URI.
    """
    if is_registered(uri):
        return pinned(tracking_for(runtime.workspace), uri)
    with reaching(uri):
        is_there = exists(join(uri, DESCRIPTION))
    if not is_there:
        raise InputError(
            f"{redact(uri)}: expected models:/NAME@ALIAS or the folder of a model, "
            f"found no {DESCRIPTION} there. `coft models list` shows what is registered."
        )
    return absolute(uri)


def check_kind(uri: str, runtime: RuntimeSpec, wanted: ModelKind = ModelKind.CLASSIFIER) -> str:
    """Return what a URI means now, as `check_model`, of a model of one kind.

    Raises:
        InputError: no model has this URI, or it is of another kind; names the command for that.
    """
    meant = check_model(uri, runtime)
    if is_registered(meant):
        found = evidence_of(meant, runtime).get(KIND)
    else:
        found = read_json(join(meant, DESCRIPTION)).get("kind")
    _check_same(uri, found, wanted)
    return meant


def evidence_of(version: str, runtime: RuntimeSpec) -> Mapping[str, str]:
    """Return what `models:/NAME/VERSION` was registered with; nothing is fetched."""
    name, _, number = version.removeprefix("models:/").rpartition("/")
    return find_version(tracking_for(runtime.workspace), name, number).evidence


def _check_same(uri: str, found: str | None, wanted: ModelKind) -> None:
    kind, name = found or ModelKind.CLASSIFIER, redact(uri)
    if kind not in set(ModelKind):
        raise InputError(f"{name} is of a kind that this version does not know, {kind!r}.")
    if kind != wanted:
        how = _HOW[kind].replace("{uri}", name)
        raise InputError(f"{name} is {ModelKind(kind).words}: {how}.")


@step("find model")
def find_model(
    uri: str, runtime: RuntimeSpec, wanted: ModelKind = ModelKind.CLASSIFIER
) -> ModelRef:
    """Find a model by registry URI (`models:/NAME@champion`, `models:/NAME/3`) or by its folder.

    A registered model is copied into the workspace, where every worker can read it.

    Args:
        uri: Of the model.
        runtime: Workspace and cluster.
        wanted: The kind of model that can be used.

    Raises:
        InputError: no model of this kind has this URI.
    """
    check_kind(uri, runtime, wanted)
    if not is_registered(uri):
        members = read_json(join(uri, DESCRIPTION))["members"]
        try:
            description.check_members(members)
        except description.BrokenModel as error:
            raise InputError(f"{redact(uri)}: {error}") from error
        names = [DESCRIPTION, *members]
        return ModelRef(uri=absolute(uri), digest=_model_digest(uri, names))
    with local_bundle(uri, runtime) as bundle:
        paths = (path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
        names = sorted((path.as_posix() for path in paths), key=lambda name: name == DESCRIPTION)
        digest = _model_digest(str(bundle), names)
        folder = in_workspace(runtime.workspace, Folder.MODELS, digest)
        for name in names:
            if not exists(join(folder, name)):
                write_bytes(join(folder, name), (bundle / name).read_bytes())
    return ModelRef(uri=folder, digest=digest)


@contextmanager
def local_bundle(uri: str, runtime: RuntimeSpec) -> Iterator[Path]:
    """Yield a folder with the files of a version or of a model's folder, for the block's time."""
    if not is_registered(uri):
        with local_copy(uri) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="coft-model-") as download:
        yield download_bundle(tracking_for(runtime.workspace), uri, into=Path(download))


def _model_digest(folder: str, names: Sequence[str]) -> str:
    """Return a digest of all files of a model."""
    contents = {name: content_hash(join(folder, name)) for name in sorted(names)}
    return fingerprint(Folder.MODELS, contents)
