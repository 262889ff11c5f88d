"""Versions in the model registry: evidence, aliases, URI."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.specs import InputError, Spec
from tasks.tracking.registry import Registered, Version, read_registry
from tasks.tracking.store import Tracking

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
TAG = "coft."  # prefix of our tags on a version
DIGEST, HEALTHY = f"{TAG}bundle", f"{TAG}healthy"
# Among the evidence: which kind of model it is, a classifier without it; what that one has learned.
KIND, MODALITIES = "kind", "modalities"
# Of one that captions: its language model, and whether the version holds it.
LLM_NAME, LLM_HASH, LLM_INCLUDED = "llm", "llm_sha256", "llm_included"
_SPECIAL = r"/:%\"'`\\?#@;\x00-\x1f\x7f"  # of URIs, SQL and terminals
_NAME = re.compile(rf"(?![.\s-])[^{_SPECIAL}]{{1,200}}(?<!\s)")


class RegisteredModel(Spec):
    """A version in the registry with its evidence and aliases."""

    name: str
    version: str
    aliases: tuple[str, ...]
    healthy: bool | None  # None: no evidence, registered by another program
    evidence: dict[str, str]
    run_id: str
    digest: str
    created: datetime

    @property
    def uri(self) -> str:
        """URI for `mlflow models serve` and `coft predict`."""
        return f"models:/{self.name}/{self.version}"


def list_models(tracking: Tracking, name: str | None = None) -> list[RegisteredModel]:
    """Return the versions of one model, or of all, newest first within each name.

    Raises:
        InputError: there is no model of that name.
    """
    found = {name: _model(tracking, name)} if name else read_registry(tracking)
    models = [
        _from_version(model_name, version, model.aliases)
        for model_name, model in found.items()
        for version in model.versions
    ]
    return sorted(models, key=lambda model: (model.name, -int(model.version)))


def find_version(tracking: Tracking, name: str, version: str) -> RegisteredModel:
    """Return one version of a model.

    Raises:
        InputError: there is no such version; names those that exist.
    """
    for model in (models := list_models(tracking, name)):
        if model.version == version:
            return model
    existing = ", ".join(model.version for model in models) or "none"
    msg = f"{name!r} has no version {version!r}, only {existing}"
    raise InputError(msg)


def find_chosen(tracking: Tracking, name: str, version: str | None) -> RegisteredModel:
    """Return the version that was named, or the candidate.

    Raises:
        InputError: there is no such model, version or candidate.
    """
    chosen = version or aliases_of(tracking, name).get(CANDIDATE)
    if chosen is not None:
        return find_version(tracking, name, chosen)
    numbers = version_numbers(tracking, name)
    raise InputError(f"{name!r} has no candidate; name a version, one of {numbers}")


def check_name(name: str) -> str:
    """Return the name.

    Raises:
        InputError: MLflow does not allow it.
    """
    if not _NAME.fullmatch(name):
        msg = "expected a model name of at most 200 characters without / : % ? # @ ; quotes, line "
        raise InputError(f"{msg}ends, spaces around it, dot or dash before it, got {name[:80]!r}")
    return name


def aliases_of(tracking: Tracking, name: str) -> Mapping[str, str]:
    """Return the version of each alias of a model.

    Raises:
        InputError: there is no such model; names those that exist.
    """
    return _model(tracking, name).aliases


def version_numbers(tracking: Tracking, name: str) -> str:
    """Return the numbers of a model's versions as a text for messages."""
    return ", ".join(model.version for model in list_models(tracking, name)) or "none"


def _model(tracking: Tracking, name: str) -> Registered:
    found = read_registry(tracking, check_name(name))
    if name in found:
        return found[name]
    names = ", ".join(sorted(read_registry(tracking)))
    msg = f"no model {name!r} in the registry, which has {names or 'none yet'}"
    raise InputError(f"{msg}; `coft adapt --register {name}` makes one")


def _from_version(name: str, version: Version, aliases: Mapping[str, str]) -> RegisteredModel:
    tags = dict(version.tags)
    healthy = tags.pop(HEALTHY, None)
    return RegisteredModel(
        name=name,
        version=version.number,
        aliases=tuple(sorted(a for a, number in aliases.items() if number == version.number)),
        healthy=None if healthy is None else healthy == "true",
        run_id=version.run_id,
        digest=tags.pop(DIGEST, ""),
        evidence={key.removeprefix(TAG): tags[key] for key in tags if key.startswith(TAG)},
        created=datetime.fromtimestamp(version.created / 1000, UTC),
    )
