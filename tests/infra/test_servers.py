"""What `make up` notes of its processes, and that nothing else is ever stopped."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra import servers
from infra.settings import Settings


def test_only_what_was_started_is_ended(tmp_path: Path) -> None:
    sleep = ["-c", "import time; time.sleep(60)"]
    other = subprocess.Popen([sys.executable, *sleep])
    noted = {"ours": sleep, "gone": ["-c", "pass"]}
    for name, words in noted.items():
        command = ["timeit", "-n", "1", "-r", "1", words[1]]
        servers._start(name, command, {"PATH": "/usr/bin:/bin"}, tmp_path)
    file = tmp_path / servers.PROCESSES
    recorded = json.loads(file.read_text())
    # A number that another process has by now: its start says that it is not ours.
    file.write_text(json.dumps({**recorded, "stranger": (other.pid, 1.0)}))
    assert "ours" in servers.running(tmp_path)
    assert "stranger" not in servers.running(tmp_path)
    servers._start("ours", ["this"], {}, tmp_path)  # runs already
    assert servers.down(tmp_path, ["another"]) == []
    assert "ours" in servers.running(tmp_path)
    assert "ours" in servers.down(tmp_path)
    assert servers.running(tmp_path) == {}
    assert other.poll() is None
    assert servers.down(tmp_path) == []
    other.kill()
    other.wait()


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    servers._start("prefect", ["nothing-of-that-name"], {}, tmp_path)
    with pytest.raises(servers.CouldNotStart, match=r"(?s)prefect does not answer .*No module"):
        servers._wait("prefect", "http://127.0.0.1:9/", tmp_path)


def test_a_port_that_another_program_has_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("COFT_PREFECT_PORT", str(other.getsockname()[1]))
        with pytest.raises(servers.CouldNotStart, match=r"is taken .* COFT_PREFECT_PORT="):
            servers.up(tmp_path)
    assert servers.running(tmp_path) == {}


def test_tables_are_in_files_or_in_two_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = servers.databases(tmp_path, Settings())
    assert files["prefect"].startswith("sqlite+aiosqlite:///")
    assert files["mlflow"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(servers, "_make_database", lambda url, name: made.append((url, name)))
    settings = Settings(database_url=SecretStr("postgresql://coft:pw@db:5433"))
    places = servers.databases(tmp_path, settings)
    assert places == {
        "prefect": "postgresql+asyncpg://coft:pw@db:5433/prefect",
        "mlflow": "postgresql://coft:pw@db:5433/mlflow",
    }
    maintenance = "postgresql://coft:pw@db:5433/postgres"
    assert made == [(maintenance, "prefect"), (maintenance, "mlflow")]
