"""A workspace says which version of the files it holds; another version is left as it is."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from clipcore import description
from tasks.specs import InputError
from tasks.storage import layout
from tasks.storage.digests import SCHEMA_VERSION
from tasks.storage.files import exists, write_bytes
from tasks.storage.layout import MARK, Folder, check_workspace, claim_workspace, in_workspace
from tasks.storage.uris import join


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "workspace") if request.param == "disk" else f"memory://{uuid4().hex}"


def test_a_new_workspace_is_marked_once(place: str) -> None:
    check_workspace(place)
    assert not exists(place), "a look makes nothing"
    claim_workspace(place)
    claim_workspace(place)
    check_workspace(place)
    assert exists(join(place, MARK))


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_version_is_refused_in_a_sentence(place: str, version: int) -> None:
    write_bytes(join(place, MARK), json.dumps({"schema_version": version}).encode())
    for look in (check_workspace, claim_workspace):
        with pytest.raises(InputError, match=f"version {version}, this one reads {SCHEMA_VERSION}"):
            look(place)


@pytest.mark.parametrize("mark", [{}, [], {"version": 3}, 3])
def test_a_mark_that_says_no_version_is_refused_in_a_sentence(place: str, mark: object) -> None:
    write_bytes(join(place, MARK), json.dumps(mark).encode())
    with pytest.raises(InputError, match="version unknown, this one reads"):
        check_workspace(place)


@pytest.mark.parametrize("folder", [Folder.POOL, Folder.EMBEDDINGS, Folder.ROUNDS])
def test_a_workspace_of_before_there_were_marks_is_refused_and_left_as_it_is(
    place: str, folder: Folder
) -> None:
    write_bytes(in_workspace(place, folder, "0123", "manifest.json"), b"{}")
    with pytest.raises(InputError, match="version 1"):
        claim_workspace(place)
    assert not exists(join(place, MARK))


def test_a_registry_and_images_in_the_folder_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "demo").mkdir()
    claim_workspace(str(tmp_path))
    assert (tmp_path / MARK).exists()


def test_folders_are_absolute_for_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_workspace("w", Folder.LABELS, "0123") == str(tmp_path / "w" / "labels" / "0123")
    assert in_workspace("s3://b/w", Folder.MODELS) == "s3://b/w/models"


def test_the_description_of_a_model_is_called_as_clipcore_calls_it() -> None:
    assert layout.DESCRIPTION == description.DESCRIPTION
