"""Where the command begins: from here on a signal ends it with one line, also while it loads."""

import sys
from importlib import import_module

from infra import interrupts


def main() -> None:
    """Load the command line, and run it."""
    interrupts.listen()
    try:
        cli = import_module("flows.cli")
    except KeyboardInterrupt:
        interrupts.tell()
        sys.exit(interrupts.exit_code())
    cli.main()
