"""Named streams of random numbers."""

import hashlib

import torch

from clipcore.seeding import derive_seed, generator


def test_equal_names_give_equal_numbers_whatever_was_drawn_between() -> None:
    before = torch.rand(5, generator=generator(0, "phase1", 1))
    torch.rand(100)
    assert torch.equal(torch.rand(5, generator=generator(0, "phase1", 1)), before)


def test_seed_and_every_part_of_the_name_count() -> None:
    seeds = {
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "phase1"),
        derive_seed(0, "phase1", 1),
        derive_seed(0, "phase1", 2),
        derive_seed(0, "phase1", "epoch", 1),
        derive_seed(1, "phase1", 1),
    }
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    torch.rand(3, generator=generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    digest = hashlib.sha256(b"7/phase1/2").digest()
    assert derive_seed(7, "phase1", 2) == int.from_bytes(digest[:8], "big") // 2
