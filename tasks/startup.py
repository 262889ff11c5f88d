"""Before a run: what would stop it is told at once, and what takes seconds is started meanwhile."""

import threading
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from infra import offline, prefect_server
from infra.settings import Settings
from tasks.doctor import machine, ray_cluster, servers
from tasks.doctor.findings import Check
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec
from tasks.storage import disk_errors
from tasks.tracking import store, turns

if TYPE_CHECKING:
    from tasks.compute import workers
else:  # a refusal does not wait for Ray
    workers = OnDemand("tasks.compute.workers")


def check_place(runtime: RuntimeSpec, *, tracked: bool = True) -> None:
    """Refuse a workspace that cannot be written, and servers that nobody answers for.

    Args:
        runtime: Where the run will be.
        tracked: Whether the run needs MLflow.

    Raises:
        InputError: says which, and what to do.
        GaveUp: another run is at work in the workspace, and this one is not to wait.
    """
    turns.check_turn(runtime)
    for check in _checks(runtime, tracked=tracked):
        if check.ok is False:
            advice = f"; {check.advice}" if check.advice else ""
            raise InputError(f"{check.name}: {check.detail}{advice}")


def begin(runtime: RuntimeSpec, *flows: str, tracked: bool = True) -> None:
    """Check where a run will be, and start in the background what it will wait for.

    Args:
        runtime: Where to run.
        flows: The modules of what will run. They are imported here, and the tracker only then, in a
            thread: two threads that import at the same time can meet half of a module.
        tracked: Whether the run needs MLflow.

    Raises:
        InputError: as `check_place`.
    """
    check_place(runtime, tracked=tracked)
    disk_errors.writes_to(runtime.workspace)
    if names := offline.unusable_proxies:
        say(
            f"{' and '.join(names)}: not a proxy of HTTP, and SOCKS needs the package socksio; "
            "nothing outside of this machine can be reached."
        )
    prefect_server.start(say)
    workers.start_early(runtime)
    for flow in flows:
        import_module(flow)
    if tracked:
        tracking = store.tracking_for(runtime.workspace)
        threading.Thread(target=_open_store, args=(tracking,), daemon=True).start()


def _checks(runtime: RuntimeSpec, *, tracked: bool) -> Iterator[Check]:
    yield machine.check_workspace(runtime.workspace)
    yield machine.check_temporary()
    yield machine.check_open_files()
    if not runtime.ray_address:
        yield machine.check_room_for_ray()
    yield ray_cluster.reach_ray(runtime.ray_address)
    yield servers.check_prefect(Settings().prefect_api_url)
    if tracked:
        yield servers.check_mlflow(runtime.workspace)


def _open_store(tracking: store.Tracking) -> None:
    """Open the store; whoever needs it next finds it open, or hears of the error."""
    try:
        store.connect(tracking)
    except Exception:  # noqa: BLE001  # told where the run begins, in the words of that place
        return
