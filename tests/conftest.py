"""What tests share: one Prefect server and one Ray for a session, no network, a tiny CLIP.

Nothing of a person's own is read or written: homes, addresses and settings point into a temporary
folder before the first of the project's modules is imported.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from infra import offline

ROOT = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="coft-tests-"))
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
os.environ["MPLCONFIGDIR"] = str(HOME / "matplotlib")
os.environ["HF_HOME"] = str(HOME / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CONFIG_HOME"] = str(HOME / "config")
os.environ["DUCKDB_HOME"] = str(HOME / "duckdb")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(HOME, ignore_errors=True)


# --- the network is denied ------------------------------------------------------------------------


class NetworkRefused(OSError):
    """A test tried to leave this machine."""


class Doors:
    """The ways out of a Python process; each refuses what is not this machine, and remembers it."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._names = {"localhost", "", socket.gethostname(), socket.getfqdn()}

    def check(self, host: object) -> None:
        """Raise unless the host is this machine.

        Raises:
            NetworkRefused: for any other name or address.
        """
        text = host.decode() if isinstance(host, bytes) else str(host or "")
        if text not in self._names and not _is_own_address(text):
            self.refused.append(text)
            raise NetworkRefused(f"no network in tests: {text}; use a local file or memory://")

    def check_address(self, sock: socket.socket, address: object) -> None:
        """Check where a socket goes; a Unix socket goes nowhere.

        Raises:
            NetworkRefused: for any other machine.
        """
        if sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            self.check(address[0])

    def shut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the checks before the four calls that everything in Python goes through."""
        connect, send, look_up = socket.socket.connect, socket.socket.sendto, socket.getaddrinfo
        connect_ex = socket.socket.connect_ex

        def checked_connect(sock: socket.socket, address: Any) -> None:
            # A datagram socket sends nothing when it connects; that is how to ask for a route.
            if sock.type != socket.SOCK_DGRAM:
                self.check_address(sock, address)
            connect(sock, address)

        def checked_connect_ex(sock: socket.socket, address: Any) -> int:
            self.check_address(sock, address)
            return connect_ex(sock, address)

        def checked_send(sock: socket.socket, data: bytes, *rest: Any) -> int:
            self.check_address(sock, rest[-1])
            return send(sock, data, *rest)

        def checked_look_up(host: Any, *rest: Any, **options: Any) -> Any:
            self.check(host)
            return look_up(host, *rest, **options)

        monkeypatch.setattr(socket.socket, "connect", checked_connect)
        monkeypatch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        monkeypatch.setattr(socket.socket, "sendto", checked_send)
        monkeypatch.setattr(socket, "getaddrinfo", checked_look_up)


def _is_own_address(text: str) -> bool:
    """Return whether an address is loopback, unspecified, or one that can be bound here."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError:
            return False
    return True


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


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    log = (HOME / "prefect-server.log").read_text()[-3000:]
    pytest.fail(f"the Prefect server did not answer at {url}:\n{log}")


@pytest.fixture(scope="session")
def prefect_session(doors: Doors) -> Iterator[str]:
    """Yield the API address of a real Prefect server; flows and subprocesses find it by themselves.

    A real one, because the in-process server runs no scheduler, and each flow would start its own.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    with (HOME / "prefect-server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
    try:
        _wait_until_healthy(url, server, 120)
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PREFECT_API_URL", url)
            with temporary_settings({PREFECT_API_URL: url}):
                yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


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


TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def tiny_clip_dir() -> Callable[..., Path]:
    """Return `make(folder, seed=0)`, which writes a tiny CLIP as open_clip's `local-dir:`."""
    return _write_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one tiny CLIP that all tests may read."""
    return _write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


def _write_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    model = open_clip.CLIP(**TINY_CLIP)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1 or name.endswith("class_embedding"):
                weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess})
    )
    return folder
