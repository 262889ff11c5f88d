"""A process that was started without standard input, output or error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a library does: it writes to the numbers, prints, and hands the streams to its processes.
PROGRAM = """
from infra import streams
streams.ensure()
import faulthandler, os, subprocess, sys
faulthandler.enable()
with open(sys.argv[1], "w") as file:
    for number in (1, 2):
        os.write(number, b"noise")
    print("noise")
    print("noise", file=sys.stderr, flush=True)
    said = subprocess.run(["sh", "-c", "cat; echo noise; echo noise >&2"])
    file.write(f"{said.returncode}: mine")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_nothing_is_written_into_the_files_of_a_process_that_lacks_some(
    closed: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PROGRAM, str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    assert file.read_text() == "0: mine"
