"""Where Ray's processes share objects, and how many bytes of them."""

import os
from pathlib import Path

import pytest

from infra import shared_memory
from infra.shared_memory import LEAST, MOST, store_options


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (64 * 2**30, {"object_store_memory": MOST}),
        (200 * 2**20, {"object_store_memory": 180 * 2**20}),
        (64 * 2**20, {"object_store_memory": LEAST, "_plasma_directory": "/elsewhere"}),
        (0, {"object_store_memory": LEAST, "_plasma_directory": "/elsewhere"}),
    ],
)
def test_little_is_taken_and_elsewhere_without_room(
    free: int, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "free_bytes", lambda _: free)
    assert store_options("/elsewhere") == expected


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    assert abs(shared_memory.free_bytes(tmp_path) - free) < free / 10 + 2**30
    assert shared_memory.free_bytes(tmp_path / "absent") == 0
    assert shared_memory.free_bytes(Path("/dev/null")) == 0
