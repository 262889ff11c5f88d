"""Deploy `prefect.yaml`, and keep what people changed on the server.

    python -m infra.deployments NOTED

`prefect deploy` writes its file over parameters and schedules that were changed in Prefect's UI: a
schedule that somebody turned on would be off after the next `make up`. NOTED keeps the file as it
was deployed last. What it says then and now counts for less than what the server has; what has
changed in it counts.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError

ROOT = Path(__file__).parents[1]
_KEPT = ("parameters", "schedules")
_OF_A_SCHEDULE = {"schedule", "active", "parameters", "slug", "max_scheduled_runs"}


def deploy(client: SyncPrefectClient, noted: Path) -> None:
    """Deploy all, and write what people changed back over it.

    Raises:
        CalledProcessError: Prefect refused; it has said why.
    """
    file = ROOT / "prefect.yaml"
    names = _deployments(file)
    before = {one.name: one for one in client.read_deployments() if one.name in names}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  # a program of our environment
    then, now = _deployments(noted), _deployments(file)
    for name, one in before.items():
        kept = [field for field in _KEPT if then.get(name, {}).get(field) == now[name].get(field)]
        if name in then:
            _write_back(client, one, kept)
    noted.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")


def _write_back(client: SyncPrefectClient, one: DeploymentResponse, fields: list[str]) -> None:
    schedules = [
        DeploymentScheduleUpdate.model_validate(
            schedule.model_dump(include=_OF_A_SCHEDULE, exclude_none=True)
        )
        for schedule in one.schedules
    ]
    values = {"parameters": one.parameters, "schedules": schedules}
    for field in fields:
        try:
            client.update_deployment(one.id, DeploymentUpdate(**{field: values[field]}))
        except PrefectHTTPStatusError:  # the flow takes other parameters by now
            sys.stdout.write(f"{one.name}: its {field} are those of prefect.yaml again\n")


def _deployments(file: Path) -> Mapping[str, Mapping[str, Any]]:
    if not file.exists():
        return {}
    return {one["name"]: one for one in yaml.safe_load(file.read_text("utf-8"))["deployments"]}


def main(noted: str) -> None:
    """Deploy to the server that `PREFECT_API_URL` names."""
    with get_client(sync_client=True) as client:
        deploy(client, Path(noted))


if __name__ == "__main__":
    main(*sys.argv[1:])
