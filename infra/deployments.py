"""Deploy `prefect.yaml`, and keep what people changed on the server.

    python -m infra.deployments NOTED

`prefect deploy` writes its file over parameters and schedules that were changed in Prefect's UI: a
schedule that somebody turned on would be off after the next `make up`. NOTED keeps the file as it
was deployed last. What it says then and now counts for less than what the server has; what has
changed in it counts.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def keeping_changes(client: SyncPrefectClient, file: Path, noted: Path) -> Iterator[None]:
    """Write what people changed on the server back after the block, which deploys a file.

    Args:
        client: Of the server.
        file: With deployments.
        noted: The file as it was deployed last; written when the block has ended.
    """
    then, now = _deployments(noted), _deployments(file)
    before = [one for one in client.read_deployments() if one.name in {*then} & {*now}]
    yield
    for one in before:
        own, new = then[one.name], now[one.name]
        _write_back(client, one, [key for key in _KEPT if own.get(key) == new.get(key)])
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
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    with (
        get_client(sync_client=True) as client,
        keeping_changes(client, ROOT / "prefect.yaml", Path(noted)),
    ):
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  # of our environment


if __name__ == "__main__":
    main(*sys.argv[1:])
