"""All processes that came of one, also those that left it or that nobody waits for."""

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

MARK = "FAMILY_OF_THE_TEST"


class Family:
    """Processes that inherited a mark in their environment, and the children of these."""

    def __init__(self) -> None:
        self._mark = uuid4().hex
        self._seen: set[psutil.Process | None] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment of the first of them."""
        return {**os.environ, MARK: self._mark}

    def alive(self) -> list[str]:
        """Return the command lines of those that live."""
        for process in psutil.process_iter():
            if process not in self._seen and self._has(process):
                self._seen.add(process)
        return [line for process in self._seen if process and (line := _line(process))]

    def wait_for(self, words: str, seconds: float = 100) -> None:
        """Wait until one of them has words in its command line."""
        deadline = time.monotonic() + seconds
        while not any(words in line for line in self.alive()):
            assert time.monotonic() < deadline, self.alive()
            time.sleep(0.1)

    def survivors(self, seconds: float = 30) -> list[str]:
        """Return who is left after so many seconds, sooner where nobody is."""
        deadline = time.monotonic() + seconds
        while (alive := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive

    def _has(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            parent = process.parent()  # where a process has written its title over its environment
            return process.environ().get(MARK) == self._mark or parent in self._seen
        return False


def _line(process: psutil.Process) -> str:
    """Return the command line of a process, nothing when it has ended."""
    with suppress(psutil.Error):
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline()) or process.name()
    return ""


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[Any]) -> None:
    """Wait until a program has written a file."""
    deadline = time.monotonic() + 200
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"{pattern} never appeared"
        time.sleep(0.05)
