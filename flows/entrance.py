"""Where the command begins: from here on a signal ends it with one line, also while it loads."""

from importlib import import_module

from infra import interrupts, streams


def main() -> None:
    """Load the command line, and run it."""
    streams.ensure()
    interrupts.listen()
    try:
        import_module("flows.cli").main()
    except BaseException:  # Python and libraries wrap what they meet, also the word of a signal
        if interrupts.received():
            interrupts.end()
        raise
