"""The project as a whole: pins that hold, deployments that exist, files that name no machine."""

import importlib
import json
import re
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from prefect.utilities.schema_tools.validation import validate

from infra import offline

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text().splitlines()
# In two halves, so that this file passes its own test.
FORBIDDEN = [
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "download." + "pytorch.org",
    "registry.npmjs" + ".org",
    "deb." + "debian.org",
    "quay" + ".io",
    "ghcr" + ".io",
    "/ro" + "ot/",
    "/wo" + "rk/",
    "/home/" + "user",
]

INTERNAL = {"plan", "command"}  # what a command tells its flow


def _locked() -> dict[str, Requirement]:
    return {canonicalize_name(line.name): line for line in map(Requirement, LOCK)}


def _asked() -> list[Requirement]:
    groups = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    return [Requirement(text) for text in groups]


def _files_of_the_project() -> list[Path]:
    """What a clone holds: not what commands, editors or the interpreter left beside it."""
    if not (git := shutil.which("git")) or not (ROOT / ".git").exists():
        pytest.skip("not a clone: nothing says which files belong to the project")
    asked = [git, "-c", "safe.directory=*", "ls-files", "-z"]  # a clone of another user is fine
    names = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0")[:-1] if (path := ROOT / name).is_file()]


# --- requirements.lock ----------------------------------------------------------------------------


def test_lock_holds_exact_versions_and_no_addresses() -> None:
    exact = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z,]+\])?==[^\s;]+( ; .+)?$")
    assert [line for line in LOCK if not exact.match(line)] == []
    assert not any("://" in line or " @ " in line for line in LOCK)


@pytest.mark.parametrize("asked", _asked(), ids=lambda asked: asked.name)
def test_lock_satisfies_what_the_project_asks_for(asked: Requirement) -> None:
    pinned = _locked()[canonicalize_name(asked.name)]
    version = next(iter(pinned.specifier)).version
    assert asked.specifier.contains(version, prereleases=True)


def test_lock_keeps_the_bounds_that_prefect_needs_and_does_not_state() -> None:
    versions = {name: Version(next(iter(pin.specifier)).version) for name, pin in _locked().items()}
    assert versions["fastapi"] < Version("0.151")
    assert versions["sqlalchemy"] < Version("2.1")
    assert "psutil" in versions


def test_lock_leaves_out_what_nobody_uses() -> None:
    assert not {"prefect-ray", "lightning"} & _locked().keys()


# --- Prefect works on these pins (neither `pip check` nor a plain flow shows that) ----------------


@pytest.mark.slow
def test_prefect_server_can_be_imported() -> None:
    import prefect.server.api.server

    assert prefect.server.api.server.create_app


def test_deployed_cron_gets_scheduled_runs(prefect_session: str) -> None:
    """With SQLAlchemy 2.1 everything else works and no schedule ever fires."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.client.schemas.schedules import CronSchedule

    schedule = DeploymentScheduleCreate(
        schedule=CronSchedule(cron="* * * * *", timezone="UTC"), active=True
    )
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("cron-probe")
        deployment = client.create_deployment(flow_id, "every-minute", schedules=[schedule])
        mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        deadline = monotonic() + 60
        while not (runs := client.read_flow_runs(flow_run_filter=mine)) and monotonic() < deadline:
            sleep(0.5)
        client.delete_deployment(deployment)
    assert runs, "the scheduler made no run of a cron within a minute"
    assert {run.state_name for run in runs} == {"Scheduled"}
    first = min(run.expected_start_time for run in runs if run.expected_start_time)
    assert first - datetime.now(UTC) < timedelta(minutes=2)


# --- prefect.yaml ---------------------------------------------------------------------------------


def _deployments() -> list[dict[str, object]]:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert isinstance(deployments, list)
    return deployments


def _flow_of(deployment: dict[str, object]) -> Any:
    file, _, name = str(deployment["entrypoint"]).partition(":")
    return getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)


@pytest.mark.parametrize("deployment", _deployments(), ids=lambda one: str(one["name"]))
def test_deployment_points_at_a_flow_that_takes_its_parameters(
    deployment: dict[str, object],
) -> None:
    assert _flow_of(deployment).validate_parameters(deployment["parameters"])
    assert deployment["tags"]
    assert deployment["description"]
    limit = {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment["concurrency_limit"] == limit


@pytest.mark.parametrize("deployment", _deployments(), ids=lambda one: str(one["name"]))
def test_a_form_says_what_each_of_its_fields_means(deployment: dict[str, object]) -> None:
    form = _flow_of(deployment).parameters.model_dump()
    fields = {"": form["properties"]}
    fields |= {name: group["properties"] for name, group in form["definitions"].items()}
    unsaid = [
        f"{name}.{field}"
        for name, properties in fields.items()
        for field, about in properties.items()
        if not about.get("description")
    ]
    assert unsaid == []


@pytest.mark.parametrize("deployment", _deployments(), ids=lambda one: str(one["name"]))
def test_a_form_asks_for_nothing_that_is_not_filled_in(deployment: dict[str, Any]) -> None:
    form = _flow_of(deployment).parameters.model_dump()
    validate(
        deployment["parameters"], form, raise_on_error=True
    )  # as the server does before it takes a run
    assert INTERNAL.isdisjoint(form["properties"])
    assert all(INTERNAL.isdisjoint(one["properties"]) for one in form["definitions"].values())


def test_images_classes_and_a_name_are_all_that_an_adaptation_asks_for() -> None:
    spec = {"pool": {"images": "photos", "classes": "cat,dog"}, "register_as": "pets"}
    (about,) = (one for one in _deployments() if one["name"] == "adapt")
    form = _flow_of(about).parameters.model_dump()
    validate({"spec": spec}, form, raise_on_error=True)
    first = form["definitions"]
    assert list(first["CoftSpec"]["properties"])[:2] == ["pool", "register_as"]
    assert list(first["PoolSpec"]["properties"])[:2] == ["images", "classes"]


def test_deployments_go_to_any_pool_that_infra_describes() -> None:
    places = {one["work_pool"]["name"] for one in _deployments()}  # type: ignore[index]
    assert places == {"{{ $COFT_POOL }}"}
    quiet = offline.quiet_environment()
    for file in ("work-pool.json", "work-pool-kubernetes.json"):
        template = json.loads((ROOT / "infra" / file).read_text())
        assert template["variables"]["properties"]["env"]["default"] == quiet


# --- files ----------------------------------------------------------------------------------------


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in _files_of_the_project()
        if path.stat().st_size < 2**20
        for word in FORBIDDEN
        if word.encode() in path.read_bytes()
    ]
    assert found == []


def test_the_hook_says_what_it_needs(tmp_path: Path) -> None:
    if not (git := shutil.which("git")):
        pytest.skip("no git")
    subprocess.run([git, "init", "--quiet", tmp_path], check=True)
    hook = subprocess.run(
        [ROOT / ".ci/hooks/pre-commit"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert hook.returncode == 1
    assert "Run 'make install' once, or commit with --no-verify." in hook.stderr
