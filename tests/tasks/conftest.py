"""What the tests of steps share."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.worlds.embedding import Embedding, watch
from tests.worlds.peers import NetworkJobs, make_network_jobs


@pytest.fixture
def place(tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Embedding:
    """Return a place in which images are embedded in this process, and forward passes counted."""
    return watch(tmp_path, tiny_clip, monkeypatch)


@pytest.fixture
def network_jobs(tmp_path: Path, tiny_clip: Path) -> Callable[..., NetworkJobs]:
    """Return `make(**changes)`: a job of Phase II behind a trained peer, each in a new folder."""
    numbers = count()

    def make(**changes: object) -> NetworkJobs:
        return make_network_jobs(tmp_path / f"{next(numbers)}", tiny_clip, **changes)  # type: ignore[arg-type]

    return make
