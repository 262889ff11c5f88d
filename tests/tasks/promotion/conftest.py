"""A registry of each test's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.tracking.store import Tracking, connect, tracking_for


@pytest.fixture
def tracking(workspace: Path, fresh_database: Path) -> Iterator[Tracking]:
    shutil.copy(fresh_database, workspace / "mlflow.db")
    yield tracking_for(str(workspace))
    connect.cache_clear()
