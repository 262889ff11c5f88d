"""Flow runs without a process are ended, and their slot is free; those with one go on."""

import os
import subprocess
import sys
from uuid import UUID

from prefect import flow, get_client, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Pending, Running

from infra.dead_runs import WITHOUT_A_SIGN, end_dead_runs, watch

POOL = "of-this-test"


@flow(name="at-work")
def at_work() -> None:
    """Stand for what a worker runs."""


@task
def a_task() -> None:
    """Stand for the task run by which Prefect knows a flow inside of a flow."""


def begun(client: SyncPrefectClient, name: str, process: int) -> tuple[UUID, UUID]:
    deployment = client.create_deployment(
        client.create_flow(at_work), name, work_pool_name=POOL, concurrency_limit=1
    )
    run = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, Pending())
    client.set_flow_run_state(run, Running())
    client.update_flow_run(run, infrastructure_pid=str(process))
    return deployment, run


def begun_inside(client: SyncPrefectClient, run: UUID) -> UUID:
    parent = client.create_task_run(a_task, run, "inside-of-it")
    inner = client.create_flow_run(at_work, parent_task_run_id=parent.id).id
    client.set_flow_run_state(inner, Running())
    return inner


def slots(client: SyncPrefectClient, deployment: UUID) -> int:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    return limit.active_slots


def test_runs_without_a_process_are_ended(prefect_session: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        deployment, dead = begun(client, "dead", gone.pid)
        other, alive = begun(client, "alive", os.getpid())
        assert (slots(client, deployment), slots(client, other)) == (1, 1)
        inner = begun_inside(client, dead)
        names = [client.read_flow_run(run).name for run in (dead, inner)]
        assert end_dead_runs(client, POOL) == names
        for run in (dead, inner):
            assert client.read_flow_run(run).state_name == "Crashed"
        assert client.read_flow_run(alive).state_name == "Running"
        assert (slots(client, deployment), slots(client, other)) == (0, 1)
        assert end_dead_runs(client, "another") == []

        for _ in range(2):
            watch(client, POOL)
        (automation,) = client.read_automations_by_name(f"{POOL}: {WITHOUT_A_SIGN}")
        client.delete_automation(automation.id)
        for one in (deployment, other):
            client.delete_deployment(one)
        client.delete_work_pool(POOL)
