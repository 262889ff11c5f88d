"""Ablations are the runs of their methods but for one part."""

import pytest

from tasks.compare.ablations import ABLATIONS
from tasks.compare.specs import CompareSpec, method_of
from tasks.plan.settings import check_settings
from tasks.specs import CoftSpec, PoolSpec


def spec_of(*methods: str, **more: object) -> CompareSpec:
    run = CoftSpec.model_validate({"pool": PoolSpec(images="photos"), "seed": 3, **more})
    return CompareSpec(run=run, methods=methods, seeds=2)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_from_its_method_and_looks_at_what_differs(name: str) -> None:
    spec = spec_of(name)
    run, whole = spec.run_of(name), spec.run_of(method_of(name))
    assert run != whole
    assert run.method == whole.method == name.partition(":")[0]
    check_settings(run)
    CoftSpec.model_validate(run.model_dump())


def test_what_a_person_said_holds_beside_the_part_that_is_left_out() -> None:
    run = spec_of("coft:no-negative", phase1={"epochs": 4}).run_of("coft:no-negative")
    assert (run.phase1.epochs, run.phase1.dual.weight, run.collaboration.judge) == (4, 0, "none")


def test_each_method_seed_and_balance_is_a_run_on_the_images_of_its_balance() -> None:
    spec = spec_of("zlap", "coft", "coft-plus:no-rounds", register_as="best")
    spec = spec.model_copy(update={"balance": ("as-is", "long-tail")})
    runs = spec.whole_runs({"long-tail": PoolSpec(images="cut.parquet")})
    assert {(one.method, one.seed, one.balance, one.run.pool.images) for one in runs} == {
        (method, seed, balance, images)
        for method in ("coft", "coft-plus:no-rounds")
        for seed in (3, 4)
        for balance, images in (("as-is", "photos"), ("long-tail", "cut.parquet"))
    }
    assert all(one.run.seed == one.seed and one.run.register_as is None for one in runs)
