"""What tests share: one Prefect server and one Ray for a session, no network, a tiny CLIP.

A test that uses one of these servers is marked `ray` or `prefect`, and `slow`, by the fixture it
asks for, itself or through another one; so is `slow` what asks for trained models.

Nothing of a person's own is read or written: homes, addresses and settings point into a temporary
folder before the first of the project's modules is imported.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from infra import offline
from tests.network import Doors
from tests.servers import prefect_server

ROOT = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="coft-tests-"))
SERVERS = {"ray_session": "ray", "prefect_session": "prefect"}
TRAINED = {"peers", "network_jobs"}  # fixtures that train models
PERSONAL = ("MLFLOW_TRACKING_URI", "PREFECT_API_KEY", "PREFECT_API_URL", "RAY_ADDRESS")

offline.apply()
for name in [*PERSONAL, *(name for name in os.environ if name.startswith("COFT_"))]:
    os.environ.pop(name, None)
# What a process compiles stays in memory: some tests look at every file that lies in a folder.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = True
os.environ["PREFECT_HOME"] = str(HOME / "prefect")
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"  # two busy cores
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # on tiny tensors two threads that wait are ten times slower
os.environ["MPLCONFIGDIR"] = str(HOME / "matplotlib")
os.environ["HF_HOME"] = str(HOME / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CONFIG_HOME"] = str(HOME / "config")
os.environ["XDG_CACHE_HOME"] = str(HOME / "cache")
os.environ["DUCKDB_HOME"] = str(HOME / "duckdb")

settings.register_profile("coft", deadline=None)  # a busy core is no bug
settings.load_profile("coft")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, by its fixtures."""
    for item in items:
        for fixture in SERVERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(SERVERS[fixture])
            item.add_marker("slow")
        if TRAINED & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(HOME, ignore_errors=True)


# --- the network is denied ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def doors() -> Iterator[Doors]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        doors = Doors()
        doors.shut(monkeypatch)
        yield doors


@pytest.fixture(autouse=True)
def network_guard(doors: Doors) -> Iterator[Doors]:
    """Fail a test that tried to reach another machine, also when its code swallowed the error.

    A test that means to try clears `network_guard.refused`.
    """
    doors.refused.clear()
    yield doors
    assert not doors.refused, f"this test tried to reach {doors.refused}"


# --- servers, one of each for a session -----------------------------------------------------------


@pytest.fixture(scope="session")
def prefect_session(doors: Doors) -> Iterator[str]:
    """Yield the API address of a real Prefect server; flows and subprocesses find it by themselves.

    A real one, because the in-process server runs no scheduler, and each flow would start its own.
    """
    with prefect_server(HOME / "prefect-server.log") as url:
        yield url


@pytest.fixture(scope="session")
def ray_session(doors: Doors) -> Iterator[None]:
    """Start Ray with two CPUs for the session, on loopback and without a dashboard."""
    import ray

    from tasks.compute.cluster import start_ray

    start_ray(num_cpus=2, num_gpus=0, object_store_memory=256 * 2**20)
    yield
    ray.shutdown()


# --- data -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_bench() -> Path:
    """Return the folder of benchmark data beside the checkout, or skip."""
    folder = ROOT.parent / "shared" / "bench"
    if not folder.is_dir():
        pytest.skip("needs ../shared/bench, which is not beside this checkout")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return an empty folder for the results of a run."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one tiny CLIP that all tests may read."""
    from tests.worlds.clip import write_tiny_clip

    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's database with its tables; to make them takes seconds, to copy it does not."""
    from tasks.tracking.store import Tracking, connect

    home = tmp_path_factory.mktemp("tracking")
    connect(Tracking(uri=f"sqlite:///{home / 'mlflow.db'}"))
    return home / "mlflow.db"
