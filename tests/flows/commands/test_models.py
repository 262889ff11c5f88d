"""A registry in which there is nothing yet."""

from pathlib import Path

import pytest

from flows import cli
from tests.flows.commands.conftest import Refused


def test_no_model_is_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "list", "--workspace", str(tmp_path)]) == cli.DONE
    assert "No model is registered" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_model_that_is_not_there(command: str, tmp_path: Path, refused: Refused) -> None:
    said = refused(["models", command, "nobody", "--workspace", str(tmp_path)])
    assert "nobody" in said
