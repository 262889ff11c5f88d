"""Questions that have no answer."""

from pathlib import Path

from tests.flows.commands.conftest import Refused


def test_a_workspace_that_is_not_there(tmp_path: Path, refused: Refused) -> None:
    place = str(tmp_path / "nothing")
    assert place in refused(["query", "select 1", "--workspace", place])
