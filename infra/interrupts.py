"""Ctrl-C, SIGTERM and SIGHUP: a command stops what it does, tidies up for a moment, and ends.

Python runs a handler in the main thread, between two steps of Python; a library can keep it from
that for minutes. So a thread hears of each signal as well, and ends the process when the moment is
over. Nor does it matter whether anybody can read its last words, in a terminal that was closed.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 3.0  # seconds to tidy up
FAILED = 1  # the exit code where nobody asked
SAYING = 0.5  # seconds for the last words, where somebody reads them slowly or not at all
WORDS = "coft: stopped. The same command goes on from here."
_OFTEN = 0.01  # seconds that a foreign handler may last
_SHOW_CURSOR = "\x1b[?25h"  # which a bar hides

_heard: list[int] = []  # by the thread, at once
_handled: list[int] = []  # by the handler: soon, late or never
_told = threading.Event()
_listening = threading.Event()
_reasons: list[str] = []  # why the process ends, if nobody asked it to
_done: list[int] = []  # the exit code of a command that has done all that it does


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end."""


def listen() -> None:
    """Let the signals end this process; those that it ignores, as under `nohup`, stay ignored.

    The second time nothing more is done.
    """
    if signal.getsignal(signal.SIGTERM) is _stop:
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    _listening.set()
    sys.unraisablehook = _report
    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(hears,), name="coft-signals", daemon=True).start()


@contextmanager
def left_to_a_server() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM in the block: who hears them there ends when all is answered."""
    tells = signal.set_wakeup_fd(-1)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(tells, warn_on_full_buffer=False)


def received() -> int | None:
    """Return the signal that asked this process to end, None if there was none."""
    return next(iter((*_heard, *_handled)), None)


def exit_code() -> int:
    """Return the exit code of a process that a signal ended, as shells have it."""
    return FAILED if _reasons else 128 + (received() or signal.SIGINT)


def done(code: int) -> None:
    """Let a signal from now on end the process with this exit code, as there is nothing to stop."""
    with suppress(OSError, ValueError, AttributeError):  # as in `tell`
        sys.stdout.flush()
    _done.append(code)


def stop_for(reason: str) -> None:
    """End the command as a signal does, from another thread, as what it works with is gone.

    Does nothing where a signal is the cause of that, and in a process that is no command.

    Args:
        reason: What to say, as a sentence.
    """
    time.sleep(SAYING)  # a signal to all processes of a group reaches some of them first
    if _done or received() or not _listening.is_set():
        return
    _reasons.append(f"coft: {reason}")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    end()


def tell() -> None:
    """Say, once, that the command stopped, or why, and how to go on."""
    if _told.is_set():
        return
    _told.set()
    with suppress(OSError, ValueError, AttributeError):  # it is gone, closed, or was never there
        show_cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
        sys.stderr.write(f"{show_cursor}{_reasons[0] if _reasons else WORDS}\n")
        sys.stderr.flush()


def end() -> NoReturn:
    """End the process at once, with the last words if they are still to be said."""
    try:
        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(SAYING)
    finally:
        os._exit(exit_code())


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Keep what the signals do, for the time of a block in which a library sets handlers in C.

    Ray's prints the stack of each C++ thread on SIGTERM. Python can set handlers in the main thread
    alone, and Ray starts in another one.
    """
    handler_of, set_handler = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    handler_of.restype = set_handler.restype = ctypes.c_void_p
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    in_c = {number: handler_of(number) for number in SIGNALS}
    in_python = {number: signal.getsignal(number) for number in SIGNALS}
    over = threading.Event()

    def put_back() -> None:
        while True:
            is_over = over.wait(_OFTEN)
            for number, address in in_c.items():
                set_handler(number, address)
            if is_over:
                return

    thread = threading.Thread(target=put_back, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if threading.current_thread() is threading.main_thread():
            for number, handler in in_python.items():
                if handler is not None:
                    signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Unwind the main thread; who asks twice does not want to wait for that."""
    if _done:
        os._exit(_done[0])
    _handled.append(number)
    if len(_handled) > 1:
        end()
    raise Stopped


def _end_in_time(hears: int) -> None:
    while (number := os.read(hears, 1)[0]) not in SIGNALS:
        pass
    if not _done:
        _heard.append(number)
        time.sleep(GRACE)
    if _done:
        os._exit(_done[0])
    end()


def _report(problem: "sys.UnraisableHookArgs") -> None:
    """Report what an object met while it was taken apart, unless that was the signal."""
    if not isinstance(problem.exc_value, Stopped):
        sys.__unraisablehook__(problem)
