"""A tracking store of each test's own, a run in it and a model to register."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.tracking.runs import Run
from tasks.tracking.store import Tracking, connect, tracking_for
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.runs import open_run


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def workspace(tmp_path: Path, fresh_database: Path) -> Path:
    home = tmp_path / "my work #1"  # characters that mean something in a URI
    home.mkdir()
    shutil.copy(fresh_database, home / "mlflow.db")
    return home


@pytest.fixture
def tracking(workspace: Path) -> Iterator[Tracking]:
    yield tracking_for(str(workspace))
    connect.cache_clear()


@pytest.fixture
def run(tracking: Tracking) -> Run:
    return open_run(tracking)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return save_tiny_classifier(tmp_path / "models" / "0123456789abcdef")
