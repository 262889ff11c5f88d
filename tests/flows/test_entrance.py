"""The first moment of the command, before its libraries are there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra import interrupts

ROOT = Path(__file__).parents[2]
SLOW = """
import time

print("loading", flush=True)
"""
LOADING = {
    "a module": "time.sleep(60)",
    # Python makes a RuntimeError of what it meets there, libraries an ImportError.
    "a class": """
class Field:
    def __set_name__(self, *_):
        time.sleep(60)

class Model:
    field = Field()
""",
    "an extension": """
try:
    time.sleep(60)
except BaseException as error:
    raise ImportError("an extension") from error
""",
}
# What the tests ignore, as in the background of a shell, a child ignores too.
PROGRAM = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from flows.entrance import main
main()
"""


@pytest.mark.parametrize("loading", LOADING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_loads_is_answered_with_one_line(
    number: int, loading: str, tmp_path: Path
) -> None:
    (tmp_path / "cyclopts.py").write_text(SLOW + LOADING[loading])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "doctor"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "loading\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, f"{interrupts.WORDS}\n")
