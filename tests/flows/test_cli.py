"""The entrance of the command line: what comes at once, and what stops it."""

import subprocess
import sys

import pytest

from flows import cli

SLOW = ("torch", "prefect", "ray", "mlflow", "open_clip", "duckdb")


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["adapt", "--imagse", "x"]) == cli.BAD_INPUT
    assert "imagse" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == cli.DONE
    said = capsys.readouterr().out
    for name in ("adapt", "embed", "predict", "query", "similar", "models", "demo", "doctor"):
        assert name in said


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "adapt --help",
        "adapt --imagse x",
        "adapt --images /nowhere --classes cat,dog",
        "adapt --images . --classes cat,dog --answers /nowhere.csv",
        "predict --images /nowhere --model models:/photos/1",
        "query --sqll x",
        "active start --images /nowhere --classes cat,dog --budget 10",
        "models --lits",
    ],
)
def test_a_typo_does_not_wait_for_what_is_slow_to_import(words: str) -> None:
    code = "import sys; from flows import cli; cli.run(sys.argv[1:]); print(); print(*sys.modules)"
    command = [sys.executable, "-c", code, *words.split()]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loaded = set(printed.splitlines()[-1].split())
    assert "flows.cli" in loaded
    assert not loaded & set(SLOW)
