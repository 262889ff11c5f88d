"""What people changed on a Prefect server outlives the next deployment of a file."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
)
from prefect.client.schemas.schedules import CronSchedule

from infra.deployments import keeping_changes

NAME = "kept-by-the-next"
OFF = CronSchedule(cron="15 3 * * *", timezone="UTC")


@flow(name="of-a-deployment")
def about(number: int) -> None:
    """Take a parameter, for a deployment to have one."""


def written(folder: Path, number: int) -> Path:
    file = folder / "prefect.yaml"
    one = {"name": NAME, "parameters": {"number": number}, "schedules": [{"cron": "15 3 * * *"}]}
    file.write_text(yaml.safe_dump({"deployments": [one]}))
    return file


def of_file(number: int) -> dict[str, Any]:
    schedule = DeploymentScheduleUpdate(schedule=OFF, active=False)
    return {"parameters": {"number": number}, "schedules": [schedule]}


@pytest.mark.parametrize(("then", "stays"), [(1, 7), (2, 1)])
def test_a_file_that_says_the_same_as_before_changes_nothing(
    tmp_path: Path, prefect_session: str, then: int, stays: int
) -> None:
    noted = written(tmp_path, then).rename(tmp_path / "noted.yaml")
    file = written(tmp_path, 1)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(about),
            NAME,
            parameters={"number": 7},
            parameter_openapi_schema=about.parameters.model_dump(),
            enforce_parameter_schema=True,
            schedules=[DeploymentScheduleCreate(schedule=OFF, active=True)],
        )
        with keeping_changes(client, file, noted):
            client.update_deployment(deployment, DeploymentUpdate(**of_file(1)))
        found = client.read_deployment(deployment)
        client.delete_deployment(deployment)
    assert found.parameters == {"number": stays}
    assert [one.active for one in found.schedules] == [True]
    assert noted.read_text() == file.read_text()
