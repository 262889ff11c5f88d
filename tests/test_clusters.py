"""The files that bring coft to a cluster, read by those who would read them there."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import cli
from infra import offline, ray_token

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "Containerfile").read_text()
RAY_UP = ROOT / "infra" / "ray-cluster.yaml"
RAY_JOB = yaml.safe_load((ROOT / "infra" / "kuberay-rayjob.yaml").read_text())
SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY")


def options_exist(line: str) -> None:
    """Let cyclopts read a `coft ...`; it knows no option that does not exist."""
    words = shlex.split(line)
    assert Path(words[0]).name == "coft"
    cli.app.parse_args(words[1:], exit_on_error=False, print_error=False)


# --- ray up ---------------------------------------------------------------------------------------


def ray_starts(config: dict[str, Any]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the variables and the options of each `ray start`."""
    for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        words = shlex.split(line)
        if words[-1] != "stop":
            program = next(place for place, word in enumerate(words) if "=" not in word)
            assert words[program : program + 2] == ["~/.coft/bin/ray", "start"]
            variables = dict(word.split("=", 1) for word in words[:program])
            yield variables, words[program + 2 :]


def test_ray_up_takes_the_file_and_scales_between_one_and_two_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler._private import util

    monkeypatch.setenv("HOME", str(tmp_path))
    config = util.prepare_config(yaml.safe_load(RAY_UP.read_text()))
    util.validate_config(config)
    (kind,) = config["available_node_types"].values()
    assert (kind["min_workers"], kind["max_workers"]) == (1, 2)
    assert config["idle_timeout_minutes"] == 10


def test_each_ray_start_has_options_of_this_ray_a_token_and_silence() -> None:
    from ray.scripts.scripts import start

    config = yaml.safe_load(RAY_UP.read_text())
    head, worker = ray_starts(config)
    for variables, options in (head, worker):
        start.make_context("start", [*options])  # which it takes from a list
        assert variables[ray_token.MODE] == "token"
        assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
        assert "--disable-usage-stats" in options
    assert head[0]["RAY_USAGE_STATS_REPORT_URL"] == offline.CLOSED_PORT
    assert start.make_context("start", [*head[1]]).params["dashboard_host"] == "127.0.0.1"
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_the_command_in_its_head_can_be_typed() -> None:
    lines = re.findall(r"^#   (.*?)\\?$", RAY_UP.read_text(), flags=re.MULTILINE)
    options_exist(" ".join(lines).partition(" -- ")[2])


# --- KubeRay --------------------------------------------------------------------------------------


def groups() -> list[dict[str, Any]]:
    cluster = RAY_JOB["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers() -> list[dict[str, Any]]:
    return [one for group in groups() for one in group["template"]["spec"]["containers"]]


def strict(schema: Any) -> Any:
    """Return a schema that allows no field that it does not name, as `kubectl` would warn."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@pytest.mark.skipif(
    "KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no ray.io_rayjobs.yaml"
)
def test_kuberay_knows_every_field() -> None:
    import jsonschema

    definition = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text())
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(RAY_JOB, schema)


def test_the_job_runs_this_ray_with_a_token_and_no_secret_in_it() -> None:
    cluster = RAY_JOB["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == metadata.version("ray")
    assert cluster["authOptions"]["mode"] == "token"
    for container in containers():
        assert container["envFrom"] == [{"secretRef": {"name": "coft-bucket"}}]
        assert [one["name"] for one in container["env"] if SECRET.search(one["name"])] == []


def test_the_job_asks_for_the_cores_of_its_workers_and_types_a_command() -> None:
    cluster = RAY_JOB["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    (workers,) = cluster["workerGroupSpecs"]
    assert 1 <= workers["minReplicas"] < workers["maxReplicas"]
    # The submitter's shell reads the words, and Ray writes them as a line for the head's shell.
    (_, _, line) = shlex.split(subprocess.list2cmdline(shlex.split(RAY_JOB["spec"]["entrypoint"])))
    asking, command = line.split(" && exec ")
    options_exist(command)
    cores = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert f"request_resources(num_cpus={cores * workers['maxReplicas']})" in asking
    compile(shlex.split(asking)[2], "the question", "exec")


def test_pods_have_no_privilege_and_one_image() -> None:
    pool = json.loads((ROOT / "infra" / "work-pool-kubernetes.json").read_text())
    image = pool["variables"]["properties"]["image"]["default"]
    assert {container["image"] for container in containers()} == {image}
    for group in groups():
        context = group["template"]["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert f"USER {context['runAsUser']}:" in CONTAINERFILE
    for container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"] == container["resources"]["requests"]


# --- the image ------------------------------------------------------------------------------------


def test_the_image_is_as_quiet_as_a_command_and_not_of_root() -> None:
    for name, value in offline.quiet_environment().items():
        assert f" {name}={value}" in CONTAINERFILE
    users = re.findall(r"^USER (.*)$", CONTAINERFILE, flags=re.MULTILINE)
    assert users == ["1000:1000"]


def test_the_image_has_the_pins_and_no_more_than_a_clone_has() -> None:
    assert CONTAINERFILE.count("--constraint requirements.lock") == 2
    ignore = (ROOT / ".containerignore").read_text().splitlines()
    assert ignore[0] == "*"
    taken = [line[1:] for line in ignore if line.startswith("!")]
    assert [name for name in taken if not (ROOT / name).exists()] == []
    assert {"flows", "tasks", "clipcore", "infra"} <= set(taken)
