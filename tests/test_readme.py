"""README.md and the command line say the same; `test_commands` and `test_page` run all commands."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App, MissingArgumentError

from flows import cli
from tests import test_commands, test_page

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCK = re.compile(r"^```\w*\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def _said() -> Iterator[tuple[str, bool]]:
    """Yield each `coft ...` of the README, and whether it is only mentioned, not to be typed."""
    for line in "".join(BLOCK.findall(README)).splitlines():
        if found := re.match(r"(?:\.venv/bin/)?(coft [^#]+)", line):
            yield found[1].strip(), False
    for mention in re.findall(r"`(coft [^`]+)`", BLOCK.sub("", README)):
        yield mention, True


def _command(words: list[str]) -> tuple[tuple[str, ...], App]:
    """Return the names of the command that words begin with, and what cyclopts knows of it."""
    names, apps, _ = cli.app.parse_commands(words)
    return tuple(names), apps[-1]


def _options(command: App) -> set[str]:
    return {name for option in command.assemble_argument_collection() for name in option.names}


def _run() -> set[tuple[str, ...]]:
    """Return the commands that are run: each call of `coft` begins with the names of its own."""
    sources = [Path(module.__file__).read_text() for module in (test_commands, test_page)]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    words = [
        [str(word.value) for word in call.args if isinstance(word, ast.Constant)]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "coft"
    ]
    return {_command(line)[0] for line in words}


def _commands(app: App, *group: str) -> Iterator[tuple[str, ...]]:
    for name, command in app.resolved_commands().items():
        if command.default_command and not name.startswith("-"):
            yield (*group, name)
        elif not name.startswith("-"):
            yield from _commands(command, *group, name)


def test_every_command_is_run() -> None:
    assert _run() == set(_commands(cli.app))


@pytest.mark.parametrize(("said", "mentioned"), sorted(set(_said())))
def test_a_command_of_the_readme_is_run_and_can_be_typed(said: str, *, mentioned: bool) -> None:
    words = shlex.split(re.sub(r"--seed N\b", "--seed 0", said))[1:]
    names, command = _command(words)
    assert names in _run(), f"no test runs `{said}`"
    assert {word for word in words if word.startswith("--")} <= _options(command)
    try:
        cli.app.parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        assert mentioned, f"`{said}` lacks what the command needs"


def test_an_option_of_the_readme_exists() -> None:
    known = {name for words in _run() for name in _options(_command(list(words))[1])}
    named = set(re.findall(r"`(--[a-z0-9.-]+)", README))
    assert len(named) > 5
    assert named <= known | set(cli.app.help_flags)
