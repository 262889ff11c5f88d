"""What the tests of flows share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.active_rounds import active_round
from tasks.active.rounds import start_rounds
from tasks.active.specs import RoundsSpec
from tests.worlds.images import write_images
from tests.worlds.kills import Runs, forked_runs
from tests.worlds.rounds import NAME, active_spec, here


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a Parquet file of images; see `write_images`."""
    return write_images(tmp_path)


@pytest.fixture(scope="session")
def begun(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: str,
) -> tuple[Path, Path]:
    """Start rounds with a budget of ten labels, ask the first question; return (images, place)."""
    folder = tmp_path_factory.mktemp("rounds")
    images, place = write_images(folder), folder / "workspace"
    active = active_spec(images, place, tiny_clip)
    start_rounds(RoundsSpec(name=NAME, budget=10, active=active))
    active_round(here(str(place)), NAME)
    return images, place


@pytest.fixture
def place(begun: tuple[Path, Path], tmp_path: Path) -> str:
    """Return the workspace of rounds whose first question is open, moved to another place."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(begun[1], moved)
    return str(moved)


@pytest.fixture(scope="session")
def common(begun: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return such a workspace that several tests share, each with rounds of another name."""
    moved = tmp_path_factory.mktemp("common") / "workspace"
    shutil.copytree(begun[1], moved)
    return str(moved)


@pytest.fixture(scope="session")
def runs(fresh_database: Path, prefect_session: str) -> Iterator[Runs]:
    """Yield what starts runs in forks of a process that has imported everything."""
    with forked_runs(fresh_database) as runs:
        yield runs
