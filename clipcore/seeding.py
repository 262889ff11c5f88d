"""One seed, many named streams of random numbers."""

import hashlib

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on the run's seed and on what the numbers are for."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for one named use, equal on every machine and for every call order."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))
