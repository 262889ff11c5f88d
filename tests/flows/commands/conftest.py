"""What the tests of commands share: two photos, and bad input that ends in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from flows import cli

Refused = Callable[[list[str]], str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that runs what is refused, with exit code 2, and returns the sentence."""

    def run(words: list[str]) -> str:
        assert cli.run(words) == cli.BAD_INPUT
        said = capsys.readouterr().err.strip()
        assert said.startswith("coft: ")
        assert "Traceback" not in said
        assert "\n" not in said
        return said

    return run
