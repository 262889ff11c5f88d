"""Checks of Python, of package versions, and of the switches against telemetry."""

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from infra import offline
from tasks.doctor.findings import Check, fine, note, wrong

KEY = ("torch", "open-clip-torch", "ray", "prefect", "mlflow", "pyarrow", "duckdb", "numpy")
LOCK = Path(__file__).parents[2] / "requirements.lock"  # in a checkout
_OLDEST = (3, 11)
_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,-]*\])?\s*([^;]*)(;.*)?$")
_BOUND = re.compile(r"^\s*(>=|<=|==|<|>)\s*([\w.*+]+)\s*$")
_MAX_LISTED = 4  # packages in a line


def check_python() -> Check:
    """Check the version of Python."""
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= _OLDEST:
        return fine("python", detail)
    return wrong("python", detail, "install Python 3.11 or newer")


def check_bounds() -> Check:
    """Compare installed versions with the bounds of the project."""
    try:
        required = metadata.requires("coft") or []
    except metadata.PackageNotFoundError:
        return note("packages", "coft is not installed", "run `make install`")
    problems = [problem for line in required if (problem := _problem(line))]
    if problems:
        return wrong("packages", ", ".join(problems), "install requirements.lock again")
    versions = [f"{name} {version}" for name in KEY if (version := installed(name))]
    return fine("packages", ", ".join(versions))


def check_lock() -> Check:
    """Compare installed versions with the pinned set that was tested together."""
    if not LOCK.is_file():
        return note("lock", "no requirements.lock here: not a checkout")
    pins = (line.split(";")[0].strip().split("==") for line in LOCK.read_text().splitlines())
    pinned = {re.sub(r"\[.*\]", "", pin[0]): pin[1] for pin in pins if len(pin) == 2}  # noqa: PLR2004
    different = [
        f"{name} {current} (tested: {version})"
        for name, version in pinned.items()
        if (current := installed(name)) and _without_local(current) != _without_local(version)
    ]
    if not different:
        return fine("lock", f"{len(pinned)} pinned packages, none differs")
    more = f" and {len(different) - _MAX_LISTED} more" if len(different) > _MAX_LISTED else ""
    return note("lock", f"other than tested: {', '.join(different[:_MAX_LISTED])}{more}")


def check_telemetry() -> Check:
    """Check the switches against telemetry."""
    different = [
        f"{name}={os.environ.get(name, '')}"
        for name, value in offline.quiet_environment().items()
        if os.environ.get(name) != value
    ]
    if not different:
        return fine("telemetry", "every library's telemetry is switched off")
    return note("telemetry", f"set otherwise: {', '.join(different)}", "unset these variables")


def installed(name: str) -> str | None:
    """Return the version of an installed package; None if it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def satisfies(version: str, bounds: str) -> bool:
    """Return whether a release is within bounds such as `>=3.8,<4` or `==3.3.*`."""
    return all(_within(version, bound) for bound in bounds.split(",") if bound.strip())


def _problem(requirement: str) -> str:
    """Return the problem with one requirement, or an empty text; extras may be absent."""
    match = _REQUIREMENT.match(requirement)
    if match is None or match[3]:
        return ""
    name, bounds = match[1], match[2].strip()
    version = installed(name)
    if version is None:
        return f"{name} is missing"
    return "" if satisfies(version, bounds) else f"{name} {version} (needs {bounds})"


def _within(version: str, bound: str) -> bool:
    match = _BOUND.match(bound)
    if match is None:
        return True  # a form that this project does not use
    sign, limit = match[1], match[2]
    current, bounding = _release(version), _release(limit.removesuffix(".*"))
    if limit.endswith(".*"):
        return current[: len(bounding)] == bounding
    size = max(len(current), len(bounding))
    current, bounding = (part + (0,) * (size - len(part)) for part in (current, bounding))
    return {
        ">=": current >= bounding,
        "<=": current <= bounding,
        "==": current == bounding,
        ">": current > bounding,
        "<": current < bounding,
    }[sign]


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def _without_local(version: str) -> str:
    return version.partition("+")[0]
