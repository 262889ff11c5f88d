"""Freed memory that is used again costs no page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, threading
import torch
from infra.allocator import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(5)

def faults():  # of 36 MB: more than the allocator keeps of itself
    for _ in range(12):  # until blocks have found their places
        torch.zeros(9 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.zeros(9 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


def page_faults(how: str) -> list[int]:
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 5:
        pytest.skip("this allocator has no such options")
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_large_blocks_are_used_again_in_every_thread() -> None:
    released, kept = page_faults("released"), page_faults("kept")
    assert all(number > 1000 for number in released)
    assert all(number < 100 for number in kept)
