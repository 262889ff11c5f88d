"""What the tests of flows share."""

from pathlib import Path

import pytest

from tests.worlds.images import write_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a Parquet file of images; see `write_images`."""
    return write_images(tmp_path)
