"""The champion of a model: promotion, rollback, and the files of a version.

A version becomes `candidate` when the label-free health of its run passes. `promote` makes it
`champion` and keeps the former one as `previous`; `rollback` makes that the champion again. Both go
through the promotion log (`promotions.py`), which says what came first. The evidence for the
decision is in the tags and the description of the version.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from tasks.gate import decide_promotion
from tasks.specs import InputError
from tasks.tracking import promotions
from tasks.tracking.packaging import BUNDLE
from tasks.tracking.store import Tracking, alone, connect, registry_uri
from tasks.tracking.versions import (
    CANDIDATE,
    TAG,
    RegisteredModel,
    aliases_of,
    find_chosen,
    find_version,
    version_numbers,
)

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")


class UnhealthyModel(InputError):
    """A version whose evidence does not allow it to become champion."""


def promote(
    tracking: Tracking,
    name: str,
    version: str | None = None,
    *,
    force: bool = False,
    instead_of: str | None = None,
) -> RegisteredModel:
    """Make a version the champion; the former champion becomes previous.

    Any number of people may do so at the same time: of those that saw the same champion one
    succeeds, and the others hear who that was. Promoting the champion again changes nothing.

    Args:
        tracking: The store.
        name: Name of the registered model.
        version: Number of the version; the candidate by default.
        force: Whether to promote against the evidence.
        instead_of: The champion with which the version was compared, an empty text for none; by
            default whichever there is now.

    Raises:
        UnhealthyModel: the evidence is against it, and `force` is not set.
        Overtaken: somebody else has changed the champion meanwhile.
        InputError: there is no such model, version or candidate.
    """
    log = promotions.read_log(tracking, name)
    model = find_chosen(tracking, name, version)
    chosen = model.version
    if log.last.champion != chosen:
        _check_evidence(model, force=force)
        if instead_of is not None and (log.last.champion or "") != instead_of:
            raise promotions.overtaken(name, log.last, chosen)
        before = log.last.champion
        promotions.append(tracking, log, "promote", champion=chosen, previous=before)
        _stamp(tracking, model, "promoted" if model.healthy else "promoted_by_force")
    _follow(tracking, name, chosen)
    _end_candidacy(tracking, name, chosen)
    return find_version(tracking, name, chosen)


def rollback(tracking: Tracking, name: str) -> RegisteredModel:
    """Make the previous version the champion again.

    No version is previous afterwards, so that a second rollback cannot bring the bad one back.

    Raises:
        Overtaken: somebody else has changed the champion meanwhile.
        InputError: there is no such model, or no previous version.
    """
    log = promotions.read_log(tracking, name)
    former, chosen = log.last.champion, log.last.previous
    if chosen is None:
        msg = f"{name!r} has no previous champion to return to; `coft models promote {name}`"
        raise InputError(f"{msg} takes a version, one of {version_numbers(tracking, name)}")
    promotions.append(tracking, log, "roll back", champion=chosen, previous=None)
    if former is not None:
        _stamp(tracking, find_version(tracking, name, former), "rolled_back")
    _follow(tracking, name, chosen)
    return find_version(tracking, name, chosen)


def _check_evidence(model: RegisteredModel, *, force: bool) -> None:
    verdict = decide_promotion(model.evidence, healthy=model.healthy)
    if not verdict.healthy and not force:
        raise UnhealthyModel(
            f"version {model.version} of {model.name!r} may not become champion: "
            f"{'; '.join(verdict.objections)}; look at its report, then use --force if you must"
        )


def _follow(tracking: Tracking, name: str, chosen: str) -> None:
    """Let the aliases follow the log.

    Raises:
        Overtaken: the champion is another one by now.
    """
    last = promotions.follow(tracking, name).last
    if last.champion != chosen:
        raise promotions.overtaken(name, last, chosen)


def _end_candidacy(tracking: Tracking, name: str, chosen: str) -> None:
    """Take the alias `candidate` from a champion, and from no other version."""
    with alone(tracking):
        if aliases_of(tracking, name).get(CANDIDATE) == chosen:
            connect(tracking).delete_registered_model_alias(name, CANDIDATE)


def pinned(tracking: Tracking, model_uri: str) -> str:
    """Return `models:/NAME/VERSION` for a URI that may name an alias; versions never change.

    Raises:
        InputError: a URI of another form, or an unknown model, version or alias.
    """
    name, version = _resolve(tracking, model_uri)
    return f"models:/{name}/{version}"


def download_bundle(tracking: Tracking, model_uri: str, into: Path | None = None) -> Path:
    """Return the bundle folder of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Args:
        tracking: The store.
        model_uri: Which version.
        into: Folder for the files of a remote registry, a new temporary one by default. Local
            files are not copied.

    Raises:
        InputError: a URI of another form, an unknown model, version or alias, or a model that was
            not registered by coft.
    """
    name, version = _resolve(tracking, model_uri)
    # Slow to import, see store.connect.
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    folder = Path(
        download_artifacts(
            # Not "models:/...", which MLflow looks up in the global store, not in `tracking`.
            artifact_uri=connect(tracking).get_model_version_download_uri(name, version),
            dst_path=str(into) if into else None,
            tracking_uri=tracking.uri,
            registry_uri=registry_uri(tracking),
        )
    )
    flavor = Model.load(str(folder)).flavors.get("python_function", {})
    relative = flavor.get("artifacts", {}).get(BUNDLE, {}).get("path", "")
    bundle = (folder / str(relative)).resolve()
    if not relative or not bundle.is_relative_to(folder.resolve()):
        msg = f"{model_uri} is not a classifier of coft: expected an artifact {BUNDLE!r} in it"
        raise InputError(msg)
    return bundle


def _stamp(tracking: Tracking, model: RegisteredModel, event: str) -> None:
    """Record the time of an event in a tag of a version."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connect(tracking).set_model_version_tag(model.name, model.version, f"{TAG}{event}", now)


def _resolve(tracking: Tracking, model_uri: str) -> tuple[str, str]:
    match = _URI.fullmatch(model_uri)
    if match is None:
        msg = f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {model_uri!r}"
        raise InputError(msg)
    name, alias = match["name"], match["alias"]
    if alias is None:
        return name, find_version(tracking, name, match["version"]).version
    aliases = aliases_of(tracking, name)
    if alias not in aliases:
        existing = ", ".join(sorted(aliases)) or "none"
        msg = f"{name!r} has no {alias}, only {existing}; `coft models list` shows its versions"
        raise InputError(msg)
    return name, aliases[alias]
