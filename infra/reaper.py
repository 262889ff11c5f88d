"""The helpers of a local Ray end with this process, however it ends.

Ray's own processes do: the kernel kills the raylet with the thread that started it, and workers
look for the raylet. Its agents look for it only when they have started; until then they would stay
for a minute. So the raylet has a session of its own, which its agents share, and a shell that
outlives this process kills what is left of that.

When the raylet or the server of the cluster ends before this process does, nothing can go on: Ray
would wait for them, for minutes. The command ends instead, with what is finished.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from infra import interrupts

RAYLET, SERVER = "raylet", "gcs_server"  # Ray's names of the processes
_IN_A_SESSION = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
_REAPER = 'read group && { read ended || kill -9 "-$group"; }'


def reaping(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Ray's process starter: the raylet takes its agents with it."""

    def start_ray_process(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == SERVER:
            server = start(command, process_type, **options)
            threading.Thread(target=_watch, args=(server.process, SERVER), daemon=True).start()
            return server
        if process_type != RAYLET:
            return start(command, process_type, **options)
        command_of_reaper = ["/bin/sh", "-c", _REAPER]
        reaper = subprocess.Popen(  # noqa: S603  # a script of ours
            command_of_reaper, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        in_a_session = [sys.executable, "-I", "-S", "-c", _IN_A_SESSION, *command]
        raylet = start(in_a_session, process_type, **options)
        _tell(reaper, raylet.process.pid)
        threading.Thread(target=_look_after, args=(raylet.process, reaper), daemon=True).start()
        return raylet

    return start_ray_process


def _watch(process: "subprocess.Popen[Any]", name: str) -> None:
    """Wait for the end of a process; end the command if Ray is still at work then."""
    process.wait()
    if sys.modules["ray"].is_initialized():  # who starts its processes has imported it
        interrupts.stop_for(
            f"Ray's {name} of this run has died. What is finished is kept; the same command goes "
            "on from there."
        )


def _look_after(raylet: "subprocess.Popen[Any]", reaper: "subprocess.Popen[str]") -> None:
    """When the raylet ends before this process does, end its agents here."""
    raylet.wait()
    with suppress(ProcessLookupError):
        os.killpg(raylet.pid, signal.SIGKILL)
    with suppress(OSError):  # somebody has killed the reaper
        _tell(reaper, "ended")
        reaper.communicate()
    _watch(raylet, RAYLET)


def _tell(reaper: "subprocess.Popen[str]", word: object) -> None:
    assert reaper.stdin is not None  # noqa: S101  # we have made it so
    reaper.stdin.write(f"{word}\n")
    reaper.stdin.flush()
