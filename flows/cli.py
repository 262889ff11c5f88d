"""The `coft` command: its entrance, how errors are told, exit codes. The commands are beside it."""

import atexit
import logging
import os
import sys
from importlib import metadata

from cyclopts import App, CycloptsError
from pydantic import ValidationError
from rich.console import Console

from infra import interrupts, offline, prefect_server
from tasks.specs import GaveUp, InputError

DONE, FAILED, BAD_INPUT = 0, 1, 2

app = App(
    name="coft",
    help="Adapt CLIP to your own images without labels.",
    version=lambda: metadata.version("coft"),  # by itself cyclopts looks for a package "flows"
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for name in ("adapt", "embed", "predict", "demo"):
    app.command(f"flows.commands.adapt:{name}")
for name in ("query", "similar", "duplicates", "outliers", "disagreements", "doctor"):
    app.command(f"flows.commands.questions:{name}")
app.command("flows.commands.clean:clean")
app.command("flows.commands.models:models")
app.command("flows.commands.rounds:active")


def main() -> None:
    """Run the command line; a person sees a sentence, never a traceback unless `--debug`."""
    ended: list[int] = []
    atexit.register(_leave, ended)  # registered first, so it runs after everybody's clean-up
    interrupts.listen()
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    offline.apply()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    ended.append(run(words, debug=debug))
    sys.exit(ended[0])


def run(words: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code.

    Returns:
        0 done, 2 bad input, 128 and its number after a signal, 1 anything else.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if not words or words[0] in app.help_flags:
            app.resolved_commands()  # cyclopts shows the help of those alone that are loaded
        app(words, exit_on_error=False, print_error=False)
    except (InputError, GaveUp, CycloptsError, ValidationError) as error:
        if debug:
            raise
        errors.print(f"coft: {_one_sentence(error)}", markup=False)
        return FAILED if isinstance(error, GaveUp) else BAD_INPUT
    except KeyboardInterrupt:
        interrupts.tell()
        return interrupts.exit_code()
    except Exception as error:  # the last door before a person
        if interrupts.received():  # what it brought down with it
            interrupts.tell()
            return interrupts.exit_code()
        if debug:
            raise
        errors.print(f"coft: {_last_words(error)}", markup=False)
        return FAILED
    return DONE


def _leave(ended: list[int]) -> None:
    """End the process at once: taking PyTorch and Ray apart, object by object, takes seconds.

    Args:
        ended: The exit code; empty where a traceback is on its way, which ends as Python ends.
    """
    if ended:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])


def _last_words(error: Exception) -> str:
    if why := prefect_server.failure():
        return f"{why} What is finished is kept; the same command goes on from there."
    return f"{type(error).__name__}: {error}\nRun with --debug for the traceback."


def _one_sentence(error: Exception) -> str:
    wrong = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(wrong, ValidationError):
        return str(error)
    first = wrong.errors()[0]
    argument = getattr(error, "argument", None)  # of a whole spec: `--phase1`
    where = [argument.name] if argument else []
    where += [str(part).replace("_", "-") for part in first["loc"]]
    return f"{'.'.join(where)}: {first['msg']}, not {first['input']!r}"
