"""A Prefect server of a process: there for its flows, and gone with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra import prefect_server

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
from infra import prefect_server

prefect_server.start()
prefect_server.start()  # again: the same one
from prefect import flow, get_client

@flow
def seven():
    return 7

print(seven())
with get_client(sync_client=True) as client:
    print(client.read_flow_runs()[0].state_name)
print("prefect.server.api.server" in sys.modules, flush=True)
print(*[server.pid for server in prefect_server._servers], flush=True)
sys.stdin.read()
"""


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


@pytest.mark.slow
def test_flows_run_on_it_and_it_ends_with_the_process_also_when_that_is_killed(
    tmp_path: Path,
) -> None:
    environment = {
        **os.environ,
        "PREFECT_API_URL": "",
        "PREFECT_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline().strip() for _ in range(4)]
        assert lines[:3] == ["7", "Completed", "False"]
        (server,) = map(int, lines[3].split())
        assert psutil.pid_exists(server)
        process.send_signal(signal.SIGKILL)
    assert is_gone(server)


@pytest.mark.parametrize("file", ["profiles.toml", "prefect.toml"])
def test_a_server_that_prefect_knows_of_is_left_to_prefect(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert not prefect_server._is_named_in_a_file()
    (tmp_path / file).write_text('[api]\nPREFECT_API_URL = "http://prefect.example/api"\n')
    prefect_server.start()
    assert os.environ["PREFECT_API_URL"] == ""
    assert not prefect_server._servers


def test_a_server_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    prefect_server.start()
    assert not prefect_server._servers
