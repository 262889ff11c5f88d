"""What is registered: models, their versions, aliases and tags.

MLflow takes seconds to import. The registry of a workspace is a database in one file, and is read
here as such, without MLflow; a server is asked through MLflow's client, and so is a database that
is not as this module expects it.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tasks.tracking.store import Tracking, connect, registry_uri

_SQLITE = "sqlite:///"
_MODELS = "select name from registered_models where :name in ('', name)"
_ALIASES = "select name, alias, version from registered_model_aliases where :name in ('', name)"
_TAGS = "select name, version, key, value from model_version_tags where :name in ('', name)"
_VERSIONS = (
    "select name, version, run_id, creation_time from model_versions "
    "where :name in ('', name) and current_stage <> 'Deleted_Internal'"  # MLflow's word
)


class Version(NamedTuple):
    """A version as the registry has it; `created` in milliseconds since 1970."""

    number: str
    run_id: str
    created: int
    tags: Mapping[str, str]


class Registered(NamedTuple):
    """A model: the number of the version behind each alias, and its versions."""

    aliases: Mapping[str, str]
    versions: tuple[Version, ...]


def read_registry(tracking: Tracking, name: str = "") -> dict[str, Registered]:
    """Return the registered models by name.

    Args:
        tracking: The store.
        name: The only model that is asked for; by default all.
    """
    tracking.follow_move()
    uri = registry_uri(tracking)
    if uri.startswith(_SQLITE) and "?" not in uri:
        path = Path(uri.removeprefix(_SQLITE))
        if not path.exists():
            return {}
        try:
            return _from_database(path, name)
        except sqlite3.Error:  # no registry yet, or one with other columns: MLflow says which
            pass
    return _from_client(tracking, name)


def _from_database(path: Path, name: str) -> dict[str, Registered]:
    """Read the file as it is; nothing is created, changed or locked."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True)
    try:
        tables = [
            connection.execute(query, {"name": name}).fetchall()
            for query in (_MODELS, _ALIASES, _VERSIONS, _TAGS)
        ]
    finally:
        connection.close()
    return _put_together(*tables)


def _put_together(
    models: list[tuple[str]],
    aliases: list[tuple[str, str, int]],
    versions: list[tuple[str, int, str | None, int]],
    tags: list[tuple[str, int, str, str]],
) -> dict[str, Registered]:
    """Return models by name from the rows of four tables."""
    aliases_of: dict[str, dict[str, str]] = defaultdict(dict)
    for model, alias, number in aliases:
        aliases_of[model][alias] = str(number)
    tags_of: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for model, number, key, value in tags:
        tags_of[model, number][key] = value
    versions_of: dict[str, list[Version]] = defaultdict(list)
    for model, number, run_id, created in versions:
        row = Version(str(number), run_id or "", created, tags_of[model, number])
        versions_of[model].append(row)
    return {model: Registered(aliases_of[model], tuple(versions_of[model])) for (model,) in models}


def _from_client(tracking: Tracking, name: str) -> dict[str, Registered]:
    """Ask MLflow, page by page."""
    client = connect(tracking)
    wanted = f"name = '{name}'" if name else None
    page = client.search_registered_models(wanted)
    models = list(page)
    while page.token:
        page = client.search_registered_models(wanted, page_token=page.token)
        models.extend(page)
    return {
        model.name: Registered(
            {alias: str(number) for alias, number in model.aliases.items()},
            tuple(
                Version(str(row.version), row.run_id or "", row.creation_timestamp, row.tags)
                for row in client.search_model_versions(f"name = '{model.name}'")
            ),
        )
        for model in models
    }
