"""Checks of the machine: cores, memory, devices, and the disk of the workspace."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from infra import offline, shared_memory
from tasks.doctor.findings import Check, fine, note, wrong
from tasks.on_demand import OnDemand
from tasks.specs import InputError
from tasks.storage import layout
from tasks.storage.files import nearest_existing, remove, try_writing_in, write_bytes
from tasks.storage.uris import is_local, join, local_path, redact

if TYPE_CHECKING:
    import torch

    from clipcore import precision
else:  # asked where there is a device, whose driver and memory it knows
    torch, precision = OnDemand("torch"), OnDemand("clipcore.precision")

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

GIB, MIB = 2**30, 2**20
LEAST_MEMORY = 4 * GIB  # for the embedded backbone, Ray and Prefect together
LEAST_DISK = 2 * GIB  # models, checkpoints and Ray's own files of a small run
LEAST_FILES = 1024  # open at a time: sockets of Ray, of Prefect's server, parts of stages
RAY_FILES = 32 * MIB  # of a session: sockets, logs
_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' subsystem
_CPU_FLAGS = "/proc/cpuinfo"
_BF16_FLAG = "avx512_bf16"  # what `precision.has_fast_bf16` asks a CPU for
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_cpu() -> Check:
    """Count the cores that this process may use."""
    num_cores = os.cpu_count() or 1
    num_usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else num_cores
    total = "" if num_usable == num_cores else f" of {num_cores}"
    return fine("cpu", f"{num_usable}{total} cores")


def check_bf16() -> Check:
    """Report the precision in which models run."""
    kind = "cuda" if _has_device() and torch.cuda.is_available() else "cpu"
    if kind == "cpu" and Path(_CPU_FLAGS).exists():
        fast = _BF16_FLAG in Path(_CPU_FLAGS).read_text().split()
    else:
        fast = precision.has_fast_bf16(torch.device(kind))
    if fast:
        return fine("bf16", f"fast on this {kind}: models run in bf16")
    return note("bf16", f"not fast on this {kind}: models run in fp32")


def check_memory() -> Check:
    """Check the memory of the machine, or of the container if that has less."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = min([pages * size, *filter(None, map(_memory_limit, _CGROUPS))])
    detail = f"{total / GIB:.1f} GiB"
    if total >= LEAST_MEMORY:
        return fine("memory", detail)
    return wrong("memory", detail, f"{LEAST_MEMORY / GIB:.0f} GiB are needed for small runs")


def check_gpus() -> Check:
    """List the GPUs that torch can use."""
    if not _has_device():
        return note("gpu", "none; runs go on the CPU")
    if not torch.cuda.is_available():
        reason = "none that torch can use" if torch.version.cuda else "none: torch is built for CPU"
        return note("gpu", f"{reason}; runs go on the CPU")
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    detail = ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in gpus)
    return fine("gpu", detail)


def check_disk(workspace: str) -> Check:
    """Check the free space on the disk of the workspace."""
    if not is_local(workspace):
        return note("disk", f"{redact(workspace)} is not on this machine")
    folder = nearest_existing(local_path(workspace).absolute())
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free >= LEAST_DISK:
        return fine("disk", detail)
    return wrong("disk", detail, "free some space, or name another --workspace")


def check_workspace(workspace: str) -> Check:
    """Write a file to the workspace and remove it; an absent folder is not created."""
    name = redact(workspace)
    try:
        layout.check_workspace(workspace)
        state = _write_local(workspace) if is_local(workspace) else _write_bucket(workspace)
    except InputError as error:
        return wrong("workspace", str(error))
    except ImportError as error:
        advice = "install coft[s3] or coft[gcs]"
        return wrong("workspace", f"{name}: {error}", advice)
    except (OSError, ValueError) as error:
        reason = redact(str(error))
        return wrong("workspace", f"{name}: {reason}", "name another --workspace")
    return fine("workspace", f"{name} {state}")


def check_temporary() -> Check:
    """Find a folder for temporary files; Python takes TMPDIR, or another one if it must."""
    try:
        folder = tempfile.gettempdir()
    except OSError:
        return wrong("temporary files", "no folder can be written", "name one in TMPDIR")
    return fine("temporary files", folder)


def check_open_files() -> Check:
    """Check how many files a process may have open, after raising that as far as it may."""
    if resource is None:
        return fine("open files", "as many as wanted")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        soft = LEAST_FILES if hard == resource.RLIM_INFINITY else min(hard, LEAST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    detail = f"a process may have {soft} open"
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return fine("open files", detail)
    return wrong("open files", detail, f"a run needs {LEAST_FILES}; raise it with ulimit -n")


def check_room_for_ray() -> Check:
    """Check that a Ray of this machine finds room for its files and for what processes share."""
    try:
        folder = Path(offline.ray_folder())
    except OSError as error:
        return wrong("ray", str(error))
    shared, other = map(shared_memory.free_bytes, (shared_memory.SHARED, folder))
    detail = (
        f"{shared / MIB:,.0f} MiB in {shared_memory.SHARED}, {other / MIB:,.0f} MiB in {folder}"
    )
    least = shared_memory.LEAST
    if other >= RAY_FILES and max(shared * shared_memory.USABLE, other - RAY_FILES) >= least:
        return fine("room for ray", detail)
    needs = f"Ray needs {RAY_FILES / MIB:.0f} MiB in {folder}, and {least / MIB:.0f} MiB there or "
    advice = f"{needs}in {shared_memory.SHARED} (of a container: --shm-size)"
    return wrong("room for ray", detail, advice)


def _write_local(workspace: str) -> str:
    path = local_path(workspace).absolute()
    existing = nearest_existing(path)
    try_writing_in(existing)
    return "is writable" if path == existing else "is absent and can be made"


def _write_bucket(workspace: str) -> str:
    probe = join(workspace, f".coft-doctor-{uuid4().hex}")
    write_bytes(probe, b"coft")
    remove(probe)
    return "is writable"


def _has_device() -> bool:
    """Return whether a driver of a GPU is there; without one, PyTorch need not be asked."""
    return any(Path(device).exists() for device in _DEVICES)


def _memory_limit(file: str) -> int | None:
    """Return the memory limit of a container; None without one."""
    try:
        text = Path(file).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
