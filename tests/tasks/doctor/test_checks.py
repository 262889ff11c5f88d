"""Findings against the truth of this machine, of `packaging`, and of servers that are made here."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Event

import pytest
from packaging.specifiers import SpecifierSet

from infra import offline
from tasks.doctor import checks, machine, models, packages, ray_cluster, servers
from tasks.doctor.checks import diagnose, to_text
from tasks.doctor.findings import Check
from tests.worlds.clip import write_tiny_clip


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RAY_ADDRESS", "COFT_RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the address of a server that is well."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("/health") else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    http = HTTPServer(("127.0.0.1", 0), Well)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_this_place_is_fit_and_nothing_is_made(quiet: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {check.name: check for check in diagnose(None, str(tmp_path / "workspace"))}
    assert [check for check in found.values() if check.ok is False] == []
    for name in ("python", "packages", "workspace", "ray", "prefect", "backbone", "weights"):
        assert found[name].ok, found[name]
    assert list(tmp_path.iterdir()) == []
    assert metadata.version("torch") in found["packages"].detail
    assert "lite0-wordnet" in found["embedded backbones"].detail


def test_no_check_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SECONDS", 0.1)
    ended = Event()
    found = checks._run_with_limit(
        "slow", lambda: Check("slow", ok=ended.wait(100), detail="it was waited for")
    )
    ended.set()
    assert (found.ok, found.detail) == (None, "no answer within 0.1 seconds")


def test_a_check_that_fails_is_a_finding_without_secrets() -> None:
    def fails() -> Check:
        raise RuntimeError("cannot open s3://user:secret@host/x")

    found = checks._run_with_limit("bad", fails)
    assert found.ok is None
    assert "RuntimeError" in found.detail
    assert "secret" not in found.detail


# --- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", ["<0.151", ">=3.8.8,<4", "==3.3.*", ">=25.0", "<2.1", "==1.0"])
@pytest.mark.parametrize(
    "version",
    ["0.150.9", "0.151.0", "3.3.0", "3.8.8", "3.10", "4.0.0", "2.0.99", "25.0.1", "1.0.0"],
)
def test_bounds_mean_what_packaging_means(version: str, bounds: str) -> None:
    assert packages.satisfies(version, bounds) == SpecifierSet(bounds).contains(version)


def test_a_package_out_of_bounds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["fastapi<0.1", "sqlalchemy<99", "no-such-thing>=1", 'absent>=1; extra == "s3"']
    monkeypatch.setattr(packages.metadata, "requires", lambda _: needs)
    found = packages.check_bounds()
    assert found.ok is False
    assert f"fastapi {metadata.version('fastapi')} (needs <0.1)" in found.detail
    assert "no-such-thing is missing" in found.detail
    assert "sqlalchemy" not in found.detail
    assert "absent" not in found.detail


def test_a_package_other_than_tested_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    numpy = metadata.version("numpy")
    (tmp_path / "lock").write_text(f"numpy=={numpy}\nray[default]==0.1\nnot-there==1\n")
    monkeypatch.setattr(packages, "LOCK", tmp_path / "lock")
    found = packages.check_lock()
    assert found.ok is None
    assert found.detail == f"other than tested: ray {metadata.version('ray')} (tested: 0.1)"
    monkeypatch.setattr(packages, "LOCK", tmp_path / "none")
    assert packages.check_lock().ok is None


def test_telemetry_that_was_switched_on_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in offline.quiet_environment().items():
        monkeypatch.setenv(name, value)
    assert packages.check_telemetry().ok
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    assert "RAY_USAGE_STATS_ENABLED=1" in packages.check_telemetry().detail


# --- the machine ----------------------------------------------------------------------------------


def test_workspaces_that_can_and_cannot_be_written(tmp_path: Path) -> None:
    assert machine.check_workspace(str(tmp_path)).ok
    assert machine.check_workspace(str(tmp_path / "a" / "b")).ok
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "inside"):
        found = machine.check_workspace(str(bad))
        assert found.ok is False
        assert "is a file" in found.detail
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert machine.check_workspace("memory://doctor").ok
    assert not machine.check_workspace("nosuch://doctor").ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert machine.check_workspace(str(tmp_path / "new")).ok is False
    tmp_path.chmod(0o700)


def test_too_little_disk_or_memory_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert machine.check_disk(str(tmp_path)).ok
    assert machine.check_disk("memory://x").ok is None
    monkeypatch.setattr(machine, "LEAST_DISK", 2**80)
    monkeypatch.setattr(machine, "LEAST_MEMORY", 2**80)
    assert machine.check_disk(str(tmp_path)).ok is False
    assert machine.check_memory().ok is False


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "max").write_text(f"{2**30}\n")
    monkeypatch.setattr(machine, "_CGROUPS", (str(tmp_path / "max"),))
    assert machine.check_memory().detail == "1.0 GiB"


# --- servers --------------------------------------------------------------------------------------


def test_servers_that_answer(quiet: pytest.MonkeyPatch, server: str, tmp_path: Path) -> None:
    assert servers.check_prefect(f"{server}/api").ok
    assert servers.check_prefect(f"http://me:secret@{server[7:]}/api").ok
    quiet.setenv("MLFLOW_TRACKING_URI", server)
    assert servers.check_mlflow(str(tmp_path)).detail == f"{server} answers"


def test_servers_that_do_not_answer(quiet: pytest.MonkeyPatch, closed: str, tmp_path: Path) -> None:
    quiet.setenv("MLFLOW_TRACKING_URI", f"http://{closed}")
    for found in (
        servers.check_prefect(f"http://me:secret@{closed}/api"),
        servers.check_prefect("ftp://x"),
        servers.check_mlflow(str(tmp_path)),
        ray_cluster.check_ray(closed),
        ray_cluster.check_ray(f"ray://{closed}"),
    ):
        assert found.ok is False
        assert "secret" not in found.detail


def test_auto_is_where_ray_start_has_left_a_note(
    quiet: pytest.MonkeyPatch, silent: str, closed: str, tmp_path: Path
) -> None:
    quiet.setenv("RAY_TMPDIR", str(tmp_path))
    quiet.setattr(ray_cluster.psutil, "process_iter", lambda _: [])  # other tests may run a cluster
    assert "no cluster was found on this machine" in ray_cluster.reach_ray("auto").detail
    note = tmp_path / "ray" / "ray_current_cluster"
    note.parent.mkdir()
    for address, ok in ((silent, True), (closed, False)):
        note.write_text(f"{address}\n")
        assert ray_cluster.reach_ray("auto").ok is ok
        assert address in ray_cluster.reach_ray("auto").detail
    quiet.setenv("RAY_ADDRESS", silent)
    assert ray_cluster.reach_ray("auto").ok


def test_a_server_that_is_silent_costs_seconds(
    monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(servers, "PATIENCE", 0.3)
    monkeypatch.setattr(ray_cluster, "PATIENCE", 0.3)
    started = time.monotonic()
    assert servers.check_prefect(f"http://{silent}/api").ok is False
    assert ray_cluster.check_ray(silent).ok is None  # no Ray behind the port
    assert time.monotonic() - started < 20


def test_a_server_of_something_else_is_no_server(quiet: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def greet() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(1000)

        threading.Thread(target=greet, daemon=True).start()
        assert servers.check_prefect(f"{url}/api").ok is False
        quiet.setenv("MLFLOW_TRACKING_URI", url)
        found = servers.check_mlflow(str(tmp_path))
    assert found.ok is False
    assert "SSH-2.0" in found.detail


# --- backbones ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ok", "word"),
    [
        ("embedded", True, "fits: timm"),
        ("ViT-B-16/openai", True, "fits: ViT, 512 dimensions"),
        ("RN50/openai", False, "ResNet"),
        ("ViT-B-16-SigLIP/webli", False, "tokenizer"),
        ("ViT-B-16/nothing", False, "tags of ViT-B-16"),
        ("unknown", False, "is unknown"),
        ("local-dir:nowhere", False, "does not exist"),
        ("embedded:nowhere", False, "no embedded backbone"),
        ("hf-hub:org/name", None, "once it has been downloaded"),
    ],
)
def test_backbones_fit_or_are_told_why_not(*, name: str, ok: bool | None, word: str) -> None:
    found = models.check_backbone(name)
    assert found.ok is ok
    assert word in found.detail


def test_weights_are_here_or_would_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = "ViT-B-16/openai"
    assert models.check_weights(name).ok is False
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = models.check_weights(name)
    assert found.ok is None
    assert "downloads timm/vit_base_patch16_clip_224.openai" in found.detail
    snapshot = tmp_path / "models--timm--vit_base_patch16_clip_224.openai" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"x")
    assert models.check_weights(name).ok
    assert models.check_weights("embedded").ok
    local = write_tiny_clip(tmp_path / "models--org--tiny" / "snapshots" / "1")
    assert models.check_weights(f"local-dir:{local}").ok
    assert models.check_weights("hf-hub:org/tiny").ok
    assert models.check_backbone("hf-hub:org/tiny").detail.endswith("fits: ViT, 32 dimensions")
    (local / "open_clip_model.safetensors").unlink()
    assert models.check_weights(f"local-dir:{local}").ok is False


def test_text_has_a_mark_and_an_advice() -> None:
    found = [Check("a", ok=True, detail="one"), Check("bb", ok=False, detail="two", advice="do")]
    assert to_text(found).splitlines() == ["ok    a   one", "FAIL  bb  two", "          -> do"]
    assert to_text([]) == ""
