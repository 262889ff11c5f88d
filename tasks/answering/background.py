"""A command that runs beside the page, and its last words."""

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from threading import Thread

# A server ignores these signals, and what it starts would, too.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from flows.entrance import main
main()
"""
LINES = 8  # of its output that are kept
PATIENCE = 15.0  # seconds for it to end, once it was asked to


class Background:
    """One `coft` command at a time, in a process of its own.

    Args:
        words: The command, without `coft`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._command = [sys.executable, "-c", PROGRAM, *words]
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=LINES)

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs():
            return
        self._lines.clear()
        process = subprocess.Popen(  # noqa: S603  # this program itself
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is the page's own; it stops the command itself
        )
        self._process = process
        self._reader = Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()

    def runs(self) -> bool:
        """Return whether it is at work."""
        return self._process is not None and self._process.poll() is None

    def failure(self) -> str | None:
        """Return its last words if it ended badly."""
        if self._process is None or self._process.poll() in (None, 0):
            return None
        self._reader.join()
        said = [line for line in self._lines if line.startswith("coft: ")] or self._lines
        return said[-1] if said else f"it ended with {self._process.returncode}"

    def lines(self) -> list[str]:
        """Return its last lines."""
        return list(self._lines)

    def stop(self) -> bool:
        """End it, and return whether it was at work: the same command goes on from there."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return True

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101  # as asked for
        with process.stdout as output:
            for line in output:
                if text := line.strip():
                    self._lines.append(text)
