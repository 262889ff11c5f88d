"""Settings come from the environment and stay; the switches are set and never override."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra import offline, ray_token
from infra.settings import Settings

ROOT = Path(__file__).parents[2]


def test_settings_have_defaults_for_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings()
    assert settings.workspace == "coft-workspace"
    assert settings.ray_address is None
    assert settings.prefect_api_url is None
    assert settings.mlflow_tracking_uri is None
    assert settings.mlflow_registry_uri is None
    assert settings.num_gpus == 0
    assert settings.pixel_cache is None


def test_settings_read_their_own_names_and_three_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COFT_WORKSPACE", "s3://bucket/work")
    monkeypatch.setenv("COFT_NUM_GPUS", "0.5")
    monkeypatch.setenv("COFT_PIXEL_CACHE", "8GiB")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:5001")
    settings = Settings()
    assert settings.workspace == "s3://bucket/work"
    assert settings.num_gpus == 0.5
    assert settings.pixel_cache == 8 * 2**30
    assert settings.ray_address == "auto"
    assert settings.prefect_api_url == "http://127.0.0.1:4200/api"
    assert settings.mlflow_tracking_uri == "http://127.0.0.1:5000"
    assert settings.mlflow_registry_uri == "http://127.0.0.1:5001"


def test_own_name_wins_over_the_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("COFT_RAY_ADDRESS", "10.0.0.1:6379")
    assert Settings().ray_address == "10.0.0.1:6379"


def test_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("COFT_WORKSPACE", "")
    assert Settings().prefect_api_url is None
    assert Settings().workspace == "coft-workspace"


def test_settings_are_frozen_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().workspace = "elsewhere"  # type: ignore[misc]
    for name, value in (("num_gpus", "-1"), ("pixel_cache", "much")):
        monkeypatch.setenv(f"COFT_{name.upper()}", value)
        with pytest.raises(ValidationError, match=name):
            Settings()
        monkeypatch.delenv(f"COFT_{name.upper()}")


def test_switches_are_set_but_a_persons_own_value_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in offline.quiet_environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    offline.apply()
    switched = {name: os.environ[name] for name in offline.quiet_environment()}
    assert switched == offline.quiet_environment() | {"RAY_USAGE_STATS_ENABLED": "1"}


@pytest.mark.slow
def test_libraries_read_the_switches_as_meant() -> None:
    """Ask each library, in a process that applied the switches first, whether it would report."""
    program = """
from infra import offline
offline.apply()
import huggingface_hub.constants, mlflow.telemetry.utils, prefect.settings
from prefect._internal.analytics.enabled import is_telemetry_enabled
from ray._common.usage import usage_lib
print([
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY,
    mlflow.telemetry.utils.is_telemetry_disabled(),
    not prefect.settings.get_current_settings().server.analytics_enabled,
    not is_telemetry_enabled(),
    not usage_lib.usage_stats_enabled(),
    usage_lib._usage_stats_report_url() == offline.CLOSED_PORT,
])
"""
    bare = {
        name: value
        for name, value in os.environ.items()
        if name not in offline.quiet_environment() and name != "CI"
    }
    answer = subprocess.run(
        [sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == str([True] * 6)


def test_work_pool_gives_its_runs_the_switches() -> None:
    pool = json.loads((ROOT / "infra/work-pool.json").read_text())
    assert pool["variables"]["properties"]["env"]["default"] == offline.quiet_environment()


def test_local_ray_takes_a_token_of_its_own_unless_a_person_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ray_token.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with offline.local_ray():
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.usefixtures("ray_session")
def test_ray_stays_on_loopback_without_a_dashboard() -> None:
    """Ask the kernel: which of Ray's processes are there, and what they listen on."""
    import psutil
    import ray

    programs, heard = set[str](), set[str]()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            programs |= {Path(part).name for part in process.cmdline()}
            connections = process.net_connections(kind="inet")
            heard |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert "raylet" in programs
    assert not programs & {"dashboard.py", "monitor.py", "log_monitor.py"}
    assert heard
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert ray.util.get_node_ip_address() == "127.0.0.1"


# --- proxies and long paths -----------------------------------------------------------------------


def test_what_is_on_this_machine_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intranet,localhost")
    monkeypatch.delenv("no_proxy", raising=False)
    offline.exempt_loopback()
    assert os.environ["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"
    assert urllib.request.proxy_bypass_environment("127.0.0.1:4200")
    assert not urllib.request.proxy_bypass_environment("mlflow.example")


@pytest.mark.parametrize("proxy", ["http://proxy:3128", "proxy:3128", "https://me:x@proxy"])
def test_a_proxy_of_http_stays(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    offline.exempt_loopback()
    assert os.environ["ALL_PROXY"] == proxy


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "socks://proxy", "socks4a://proxy", "http://proxy:port"]
)
def test_of_a_proxy_that_cannot_be_used_nothing_gets_past(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's client would end with an error of its own, though its server is on this machine."""
    import httpx

    monkeypatch.setattr(offline, "find_spec", lambda _: None)  # as without the package for SOCKS
    monkeypatch.setattr(offline, "unusable_proxies", [])
    monkeypatch.setenv("ALL_PROXY", proxy)
    offline.exempt_loopback()
    assert os.environ["ALL_PROXY"] == offline.CLOSED_PORT
    assert offline.unusable_proxies == ["ALL_PROXY"]
    with httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get("http://192.0.2.77/")


def test_without_a_proxy_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    offline.exempt_loopback()
    assert "NO_PROXY" not in os.environ


def test_sockets_of_ray_fit_whatever_the_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    short = offline.SHORT_FOLDERS[0]
    monkeypatch.setenv("TMPDIR", "/var/tmp")  # noqa: S108
    assert offline.ray_folder() == "/var/tmp"  # noqa: S108
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 90)))
    assert offline.ray_folder() == short
    monkeypatch.setenv("TMPDIR", "/proc/none")  # short, and cannot be written
    assert offline.ray_folder() == short
    monkeypatch.setattr(offline, "SHORT_FOLDERS", (str(tmp_path / "absent"),))
    with pytest.raises(OSError, match=r"at most \d+ bytes.*RAY_TMPDIR"):
        offline.ray_folder()


@pytest.mark.slow
def test_ray_starts_in_a_folder_with_a_long_path(tmp_path: Path) -> None:
    program = """
import ray
from tasks.compute.cluster import start_ray
start_ray(num_cpus=1, object_store_memory=100 * 2**20)
print(ray.get(ray.put(7)))
"""
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("RAY_TMPDIR", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "7", done.stderr
