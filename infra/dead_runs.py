"""Flow runs that died with their process: ended, and from then on watched for.

    python -m infra.dead_runs POOL [--here]

What dies without a word is told by its silence: an automation of Prefect takes a run of the pool
for crashed that has sent no heartbeat for `SILENT_AFTER`. `make up` calls this before it starts a
worker, with `--here`: every worker of its server is on this machine, so the process that Prefect
has of a run tells at once whether it is there. Either way its concurrency slot is free then.
"""

import sys
from datetime import timedelta

import psutil
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Crashed

SILENT_AFTER = timedelta(seconds=120)  # four heartbeats of a run by the worker of `make up`
WITHOUT_A_SIGN = "runs without a heartbeat have crashed"
_DIED = "Its process has died; found by `make up`."
_AT_WORK = [StateType.RUNNING, StateType.CANCELLING]
_SECONDS_OF_CLOCKS = 5.0
_ENDS = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Crashed", "Cancelled")}
_PAUSES = {f"prefect.flow-run.{pause}" for pause in ("Paused", "Suspended", "AwaitingRetry")}


def end_dead_runs(client: SyncPrefectClient, pool: str) -> list[str]:
    """Tell Prefect which runs of a pool have no process here, and what ran inside of them.

    Args:
        client: Of a server whose workers are all on this machine.
        pool: Of processes.

    Returns:
        The names of the runs.
    """
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=_AT_WORK))
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=state),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    dead = [run for run in runs if not _is_there(run)]
    for run in dead:  # and those that are found meanwhile
        dead += client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=state, parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id])
            )
        )
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message=_DIED), force=True)
    return [run.name for run in dead]


def watch(client: SyncPrefectClient, pool: str) -> None:
    """Have Prefect end runs of a pool that fall silent, from now on."""
    name = f"{pool}: {WITHOUT_A_SIGN}"
    automation = AutomationCore(
        name=name,
        description="The process of the run died and could not say so.",
        trigger=EventTrigger(
            match=_named({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_named(
                {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
            ),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *_ENDS, *_PAUSES},
            posture=Posture.Proactive,
            within=SILENT_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {SILENT_AFTER.total_seconds():.0f} s.",
            )
        ],
    )
    known = client.read_automations_by_name(name)
    if known:
        client.update_automation(known[0].id, automation)
    else:
        client.create_automation(automation)


def _named(labels: dict[str, str]) -> ResourceSpecification:
    return ResourceSpecification.model_validate(labels)


def _is_there(run: FlowRun) -> bool:
    """Return whether the process of a run is there; its number may be another one's by now."""
    if not (run.infrastructure_pid or "").isdigit():  # it has none yet
        return True
    try:
        began = psutil.Process(int(str(run.infrastructure_pid))).create_time()
    except psutil.NoSuchProcess:
        return False
    return run.start_time is None or began < run.start_time.timestamp() + _SECONDS_OF_CLOCKS


def main(pool: str, where: str = "") -> None:
    """End what is dead here, and watch from now on."""
    with get_client(sync_client=True) as client:
        for name in end_dead_runs(client, pool) if where == "--here" else ():
            sys.stdout.write(f"{name} had died with its process: Crashed\n")
        watch(client, pool)


if __name__ == "__main__":
    main(*sys.argv[1:])
