"""What the tests of plans share."""

from uuid import uuid4

import pytest

from tasks.specs import RuntimeSpec


@pytest.fixture
def memory() -> RuntimeSpec:
    """Return a workspace in memory, where images are read in this process, without Ray."""
    return RuntimeSpec(workspace=f"memory://{uuid4().hex}/w")
