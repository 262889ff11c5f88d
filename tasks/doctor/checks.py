"""Runs all checks in order, each within a time limit; nothing is downloaded or started."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, Queue

from infra.settings import Settings
from tasks.doctor import machine, models, packages, ray_cluster, repair, servers
from tasks.doctor.findings import Check, note
from tasks.storage.uris import absolute, redact

SECONDS = 5.0  # time limit of a check

_MARKS = {True: "ok  ", False: "FAIL", None: "note"}


def diagnose(backbone: str | None, workspace: str) -> list[Check]:
    """Run all checks; none takes longer than five seconds.

    Args:
        backbone: Name as for `--backbone`; None for the embedded one.
        workspace: Folder or URI of the results.
    """
    settings, folder = Settings(), absolute(workspace)
    checks: dict[str, Callable[[], Check]] = {
        "python": packages.check_python,
        "packages": packages.check_bounds,
        "lock": packages.check_lock,
        "cpu": machine.check_cpu,
        "bf16": machine.check_bf16,
        "memory": machine.check_memory,
        "gpu": machine.check_gpus,
        "disk": lambda: machine.check_disk(folder),
        "workspace": lambda: machine.check_workspace(folder),
        "temporary files": machine.check_temporary,
        "open files": machine.check_open_files,
        "room for ray": machine.check_room_for_ray,
        "ray": lambda: ray_cluster.check_ray(settings.ray_address),
        "prefect": lambda: servers.check_prefect(settings.prefect_api_url),
        "mlflow": lambda: servers.check_mlflow(folder),
        "dead runs": lambda: repair.check_dead(folder),
        "embedded backbones": models.check_embedded,
        "backbone": lambda: models.check_backbone(backbone or models.DEFAULT),
        "weights": lambda: models.check_weights(backbone or models.DEFAULT),
        "telemetry": packages.check_telemetry,
    }
    return [_run_with_limit(name, check) for name, check in checks.items()]


def to_text(checks: Sequence[Check]) -> str:
    """Return one line for each check, and a second one with advice if there is any."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.ok]}  {check.name:<{width}}  {check.detail}")
        if check.advice:
            lines.append(f"{'':<{width + 8}}-> {check.advice}")
    return "\n".join(lines)


def _run_with_limit(name: str, check: Callable[[], Check]) -> Check:
    """Run a check in a thread, and give up after the limit."""
    results: Queue[Check] = Queue()
    threading.Thread(target=lambda: results.put(_run_caught(name, check)), daemon=True).start()
    try:
        return results.get(timeout=SECONDS)
    except Empty:
        return note(name, f"no answer within {SECONDS:g} seconds")


def _run_caught(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # a check that fails is itself a finding
        detail = redact(f"{type(error).__name__}: {error}").splitlines()[0]
        return note(name, f"could not be checked: {detail}")
