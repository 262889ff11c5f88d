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
BEGIN = """
import os, signal, sys
from infra import prefect_server

prefect_server.start(print)
prefect_server.start(print)  # again: the same one
from prefect import flow, get_client

@flow
def seven():
    return 7

def server():
    return prefect_server._servers[-1].pid

"""
PROGRAM = f"""{BEGIN}
print(seven())
with get_client(sync_client=True) as client:
    print(client.read_flow_runs()[0].state_name)
    print("prefect.server.api.server" in sys.modules)
    os.kill(server(), signal.SIGTERM)  # as `ray job stop` and systemd do; it says nothing
    print(len(client.read_flow_runs()))
    os.kill(server(), signal.SIGKILL)
    print(seven())
    print(len(client.read_flow_runs()), flush=True)
print(server(), flush=True)
sys.stdin.read()
"""
BROKEN = f"""{BEGIN}
try:
    seven()
except Exception:
    print(prefect_server.failure(), flush=True)
"""


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


def started(program: str, folder: Path, home: Path) -> subprocess.Popen[str]:
    environment = {"PREFECT_API_URL": "", "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_flows_run_on_it_also_when_it_dies_and_it_ends_with_the_process(tmp_path: Path) -> None:
    with started(PROGRAM, tmp_path, tmp_path) as process:
        assert process.stdout
        lines = [process.stdout.readline().strip() for _ in range(8)]
        assert lines[:4] == ["7", "Completed", "False", "1"]
        assert lines[4].startswith("Prefect's server of this run has died; another one goes on")
        assert lines[5:7] == ["7", "2"], "what the first one knew, the second one knows"
        server = int(lines[7])
        assert psutil.pid_exists(server)
        process.send_signal(signal.SIGKILL)
    assert is_gone(server)


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_the_wait_for_it_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with started(BROKEN, tmp_path, tmp_path / "file" / "prefect") as process:
        said, _ = process.communicate(timeout=100)
    assert said.startswith("Prefect's server of this run died before it answered (")
    assert "unable to open database file" in said


@pytest.mark.parametrize("file", ["profiles.toml", "prefect.toml"])
def test_a_server_that_prefect_knows_of_is_left_to_prefect(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert not prefect_server._is_named_in_a_file()
    (tmp_path / file).write_text('[api]\nPREFECT_API_URL = "http://prefect.example/api"\n')
    prefect_server.start(print)
    assert os.environ["PREFECT_API_URL"] == ""
    assert not prefect_server._servers


def test_a_server_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    prefect_server.start(print)
    assert not prefect_server._servers
