"""Programs that end, whatever happens: with all that they started, when their time is over."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 10.0  # seconds between asking and killing


class OutOfTimeError(RuntimeError):
    """A program that did not end in its time; it and what it started were killed."""


def run_limited(
    command: Sequence[str], log: Path, *, limit: float | None, cwd: Path, env: Mapping[str, str]
) -> int:
    """Run a program with its output in `log`, and return its exit code.

    Raises:
        OutOfTimeError: it took longer than `limit` seconds.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        raise OutOfTimeError(
            f"stopped after {limit:.0f} s; it said last: {last_line(log)}"
        ) from None
    finally:
        _end(process)


def last_line(log: Path) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "nothing")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and the group that it leads."""
    if process.poll() is not None:
        return
    for sign in (signal.SIGINT, signal.SIGKILL):
        os.killpg(process.pid, sign)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
        break
    _kill_rest(process.pid)


def _kill_rest(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
