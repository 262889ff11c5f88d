"""The registry read from its file says what MLflow says of it."""

import sqlite3
from pathlib import Path

import pytest

from tasks.tracking import registry
from tasks.tracking.registry import Registered, read_registry
from tasks.tracking.store import Tracking, connect, tracking_for


def registered(tracking: Tracking) -> None:
    """Register two models: one with versions, tags, aliases and a gap, and an empty one."""
    client = connect(tracking)
    for name in ("pets", "empty"):
        client.create_registered_model(name)
    for number in range(3):
        tags = {"coft.healthy": "true", "coft.accuracy": f"0.{number}"}
        client.create_model_version("pets", "file:///nowhere", tags=tags)
    client.set_registered_model_alias("pets", "champion", "1")
    client.set_registered_model_alias("pets", "candidate", "3")
    client.delete_model_version("pets", "2")


def sorted_versions(found: dict[str, Registered]) -> dict[str, Registered]:
    return {
        name: model._replace(versions=tuple(sorted(model.versions)))
        for name, model in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "pets", "empty", "nobody"])
def test_the_file_says_what_the_client_says(name: str, tracking: Tracking) -> None:
    registered(tracking)
    path = Path(tracking.uri.removeprefix("sqlite:///"))
    of_file = sorted_versions(registry._from_database(path, name))
    assert of_file == sorted_versions(registry._from_client(tracking, name))
    assert read_registry(tracking, name).keys() == of_file.keys()
    if name == "pets":
        assert [version.number for version in of_file["pets"].versions] == ["1", "3"]
        assert of_file["pets"].aliases == {"champion": "1", "candidate": "3"}


def test_where_there_is_no_database_there_is_no_model_and_none_is_made(tmp_path: Path) -> None:
    assert read_registry(tracking_for(str(tmp_path))) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_database_of_another_form_is_left_to_mlflow(tracking: Tracking) -> None:
    path = tracking.uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("alter table model_version_tags rename column value to content")
    with pytest.raises(sqlite3.Error, match="value"):
        registry._from_database(Path(path), "")
    assert read_registry(tracking) == {}
