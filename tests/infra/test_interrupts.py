"""A process that is asked to end, whatever it is doing: it says how to go on, and ends in time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import interrupts

ROOT = Path(__file__).parents[2]
HEARS = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # also where the tests ignore them, as under nohup
"""
BEGIN = """
import ctypes, os, signal, sys, threading, time
from infra import interrupts

interrupts.GRACE = 0.3
interrupts.listen()

def ready():
    print("ready", flush=True)
"""
WORK = {
    "python": "ready(); time.sleep(60)",
    "cleaning up": """
try:
    ready(); time.sleep(60)
finally:
    time.sleep(60)
""",
    # The main thread cannot hear, so another one does.
    "a library": """
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)
ready(); ctypes.CDLL(None).sleep(60)
""",
    "taking an object apart": """
class Slow:
    def __del__(self):
        ready(); time.sleep(60)
slow = Slow()
del slow
time.sleep(60)
""",
    "errors that it swallows": """
ready()
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
""",
}
END = """
except KeyboardInterrupt:
    interrupts.tell()
    os._exit(interrupts.exit_code())
"""


def started(work: str, first: str = "") -> subprocess.Popen[str]:
    body = "try:" + "".join(f"\n    {line}" for line in work.strip().splitlines())
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HEARS}\n{first}\n{BEGIN}\n{body}\n{END}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_one_line(work: str, number: int) -> None:
    process = started(WORK[work])
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == f"{interrupts.WORDS}\n"


# Where the last words go: a terminal or a reader that has gone, one that does not read, nowhere.
NOWHERE = {
    "a closed terminal": "first, other = os.openpty(); os.dup2(other, 2); os.close(other)\n"
    "os.close(first)",
    "a reader that has gone": "first, other = os.pipe(); os.dup2(other, 2); os.close(first)",
    "a reader that does not read": """
first, other = os.pipe(); os.set_blocking(other, False)
while True:
    try:
        os.write(other, b"x" * 4096)
    except BlockingIOError:
        break
os.set_blocking(other, True); os.dup2(other, 2)
""",
    "nothing": "os.close(2)",
}


@pytest.mark.parametrize("words_go_to", NOWHERE)
@pytest.mark.parametrize("work", ["python", "errors that it swallows"])
def test_it_ends_also_where_nobody_reads_its_last_words(words_go_to: str, work: str) -> None:
    process = started(f"{NOWHERE[words_go_to]}\n{WORK[work]}")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP


def test_when_all_is_done_a_signal_ends_it_as_it_would_have_ended() -> None:
    process = started("ready(); print('what it found'); interrupts.done(7); time.sleep(60)")
    assert process.stdout
    assert process.stdout.readline() == "what it found\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (7, "")


def test_who_asks_twice_does_not_wait() -> None:
    process = started("interrupts.GRACE = 100\n" + WORK["cleaning up"])
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, f"{interrupts.WORDS}\n")


def test_what_it_ignores_stays_ignored() -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
    process = started("ready(); time.sleep(0.5); print('done')", first=ignoring)
    process.send_signal(signal.SIGHUP)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "done\n")


def test_handlers_that_a_library_sets_in_c_are_put_back() -> None:
    process = started(
        """
def library():
    with interrupts.kept_handlers():
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: os._exit(99))
        keep.append(handler)
        ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, handler)
keep = []
thread = threading.Thread(target=library)
thread.start(); thread.join()
ready(); time.sleep(60)
"""
    )
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, f"{interrupts.WORDS}\n")
