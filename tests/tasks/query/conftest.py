"""What the tests of queries share."""

import pytest

from tests.worlds.workspace import Made, write_workspace


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a finished workspace that tests only read."""
    return write_workspace(str(tmp_path_factory.mktemp("query") / "workspace"))
