"""The `coft` command: its entrance, how errors are told, exit codes. The commands are beside it."""

import atexit
import io
import logging
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, MissingArgumentError
from pydantic import ValidationError
from rich.console import Console

from infra import home, interrupts, offline, prefect_server
from tasks.on_demand import OnDemand
from tasks.specs import GaveUp, InputError
from tasks.storage.uris import escaped

if TYPE_CHECKING:
    from tasks.storage import disk_errors
else:
    disk_errors = OnDemand("tasks.storage.disk_errors")

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
app.command("flows.commands.templates:templates")
app.command("flows.commands.describe:describe")
app.command("flows.commands.compare:compare")
app.command("flows.commands.label:label")
app.command("flows.commands.serve:serve")
app.command("flows.commands.nightly:nightly")
app.command("flows.commands.export:export")
app.command("flows.commands.clean:clean")
app.command("flows.commands.models:models")
app.command("flows.commands.rounds:active")
app.command("flows.commands.harmony:harmony")


def main() -> None:
    """Run the command line; a person sees a sentence, never a traceback unless `--debug`."""
    ended: list[int] = []
    atexit.register(_leave, ended)  # registered first, so it runs after everybody's clean-up
    interrupts.listen()
    _open_streams()
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    offline.apply()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if debug else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    ended.append(run(words, debug=debug))
    if interrupts.received():  # nobody waits for others to clean up, or reads what they say
        interrupts.end()
    interrupts.done(ended[0])
    sys.exit(ended[0])


def _open_streams() -> None:
    """Let output that is closed, or knows few letters, take whatever is printed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(words: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code.

    Returns:
        0 done, 2 bad input, 128 and its number after a signal, 1 anything else.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    try:
        if not words or words[0] in app.help_flags:
            app.resolved_commands()  # cyclopts shows the help of those alone that are loaded
        _check_surroundings()
        app([escaped(word) for word in words], exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        interrupts.tell()
        return interrupts.exit_code()
    except Exception as error:  # the last door before a person
        if interrupts.received():  # what it brought down with it
            interrupts.tell()
            return interrupts.exit_code()
        if debug:
            raise
        said, code = _told(error)
        errors.print(f"coft: {said}", markup=False)
        return code
    return DONE


def _check_surroundings() -> None:
    """Refuse to work without what every library asks for: where it is, a home, temporary files.

    Raises:
        InputError: says what is missing.
    """
    try:
        os.getcwd()  # noqa: PTH109  # as libraries do
    except FileNotFoundError as error:
        raise InputError("the current folder was removed; change to another one") from error
    try:
        home.ensure()
    except OSError as error:
        msg = "neither HOME nor a folder for temporary files can be written; name one in TMPDIR"
        raise InputError(msg) from error


def _told(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if disk_errors.is_out_of_room(error):
        return disk_errors.out_of_room(error), FAILED
    if isinstance(error, InputError | GaveUp | CycloptsError | ValidationError):
        return _one_sentence(error), FAILED if isinstance(error, GaveUp) else BAD_INPUT
    if isinstance(error, OSError) and (sentence := disk_errors.refused(error)) is not None:
        return sentence, BAD_INPUT
    why = prefect_server.failure()
    if disk_errors.is_any_full() or (why and disk_errors.is_out_of_room(OSError(why))):
        return disk_errors.out_of_room(error), FAILED
    if why:
        return f"{why} What is finished is kept; the same command goes on from there.", FAILED
    return f"{type(error).__name__}: {error}\nRun with --debug for the traceback.", FAILED


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


def _one_sentence(error: Exception) -> str:
    wrong = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(error, MissingArgumentError):
        return f"{error} A value that begins with a dash is written --option=-value."
    if not isinstance(wrong, ValidationError):
        return str(error)
    first = wrong.errors()[0]
    argument = getattr(error, "argument", None)  # of a whole spec: `--phase1`
    where = [argument.name] if argument else []
    where += [str(part).replace("_", "-") for part in first["loc"]]
    return f"{'.'.join(where)}: {first['msg']}, not {first['input']!r}"
