"""Standard input, output and error, where a process was started with some of them closed.

Services and schedulers do so. The next file that is opened would get the number of a closed one,
and what a library prints would be written into it; Ray does not even start.
"""

import os
import sys

_NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}  # by the numbers of their files


def ensure() -> None:
    """Connect those that are closed to nothing. Call it before any file is opened."""
    while (number := os.open(os.devnull, os.O_RDWR)) in _NAMES:
        os.set_inheritable(number, True)  # noqa: FBT003  # it has no name
        setattr(sys, _NAMES[number], os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    os.close(number)
