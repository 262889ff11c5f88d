"""What should be served now is served soon; where that fails, the model stays."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from clipcore.rows import Allowed
from tasks.serving.batcher import Served
from tasks.serving.listening import listen
from tasks.serving.places import Places
from tasks.serving.server import allowed_by, follow
from tasks.serving.service import Service
from tasks.serving.specs import ServeSpec
from tasks.specs import InputError
from tests.worlds.service import held


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


def test_a_registry_that_is_away_and_a_broken_version_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = held(tmp_path / "1")
    second, _ = held(tmp_path / "2", uri="models:/pets/3")
    service = Service(first, Allowed(), Places(4, 10), most=4)
    said = iter([OSError("the registry is away")] * 3 + ["models:/pets/1", "models:/pets/2"])

    def newest() -> str:
        found = next(said, "models:/pets/3")
        if isinstance(found, Exception):
            raise found
        return found

    def load(uri: str) -> Served:
        if uri == "models:/pets/2":
            raise InputError("the files of version 2 are not there")
        return second

    async def all_of_it() -> None:
        task = asyncio.create_task(follow(service, newest, load, 0.01))
        await asyncio.wait_for(until(lambda: service.served is second), 60)
        task.cancel()

    asyncio.run(all_of_it())
    service.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "models:/pets/1 stays: OSError: the registry is away",  # once, however often it fails
        "models:/pets/1 stays: InputError: the files of version 2 are not there",
        "Serving models:/pets/3 from here on.",
    ]
    counted = service.metrics.text().decode()
    assert 'coft_reloads_total{outcome="failed"} 4.0' in counted
    assert 'coft_reloads_total{outcome="loaded"} 1.0' in counted


def test_options_win_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFT_IMAGE_ROOT", str(tmp_path))
    monkeypatch.setenv("COFT_IMAGE_HOSTS", "a.example")
    assert allowed_by(ServeSpec()) == Allowed(tmp_path, frozenset({"a.example"}))
    (tmp_path / "in").mkdir()
    spec = ServeSpec(image_root=str(tmp_path / "in"), image_hosts="B.example, c:81")
    assert allowed_by(spec) == Allowed(tmp_path / "in", frozenset({"b.example", "c:81"}))


def test_connections_send_at_once() -> None:
    """Else the second part of an answer waits until the client has confirmed the first: 40 ms."""
    with (
        listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()[:2]),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
