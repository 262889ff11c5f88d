"""Which settings a method looks at, and how those that it would not are told."""

import re

import pytest

from tasks.plan.settings import (
    OWNERS,
    check_method,
    check_settings,
    check_settings_of_any,
    option_of,
    run_by,
)
from tasks.specs import CoftSpec, InputError

POOL = {"images": "photos"}


def spec_of(method: str = "coft", **more: object) -> CoftSpec:
    return CoftSpec.model_validate({"pool": POOL, "method": method, **more})


@pytest.mark.parametrize(
    ("method", "settings", "option"),
    [
        ("fast", {"phase2": {"epochs": 3}}, "--phase2.epochs"),
        ("fast", {"phase1": {"sgd": {"learning_rate": 0.1}}}, "--phase1.sgd.learning-rate"),
        ("gda", {"student": {"name": "embedded:glyph"}}, "--student"),
        ("zlap", {"flip": False}, "--no-flip"),
        ("upl", {"label": {"top": {"per_class": 4}}}, "--label.top.per-class"),
        ("fast", {"gate": {"min_agreement": 0.9}}, "--gate.min-agreement"),
        ("zero-shot", {"gate": {"max_drift": 0.9}}, "--gate.max-drift"),
        ("zero-shot", {"phase1": {"epochs": 2}}, "--phase1.epochs"),
        ("coft", {"plus": {"colours": False}}, "--plus.no-colours"),
        ("coft", {"sentences": {"synonyms": False}}, "--sentences.no-synonyms"),
        ("coft-plus", {"collaboration": {"judge": "own"}}, "--collaboration.judge"),
    ],
)
def test_a_setting_without_effect_is_refused_by_its_name(
    method: str, settings: dict[str, object], option: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(option)}: --method {method} would not"):
        check_settings(spec_of(method, **settings))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("fast", {"label": {"templates": ["a scan of a {}."]}, "gate": {"max_drift": 0.9}}),
        ("zero-shot", {"templates": "sentences.json", "seed": 3}),
        ("coft", {"phase1": {"epochs": 3}, "collaboration": {"num_peers": 1}, "flip": False}),
        ("coft-plus", {"plus": {"rounds": 0}, "student": {"name": "embedded:glyph"}}),
        ("fast", {"phase2": {"epochs": 2}}),
    ],
)
def test_what_a_method_looks_at_may_be_set_and_a_default_changes_nothing(
    method: str, settings: dict[str, object]
) -> None:
    check_settings(spec_of(method, **settings))


def test_every_owned_setting_is_there() -> None:
    for path in OWNERS:
        assert option_of(spec_of(), path).startswith("--")


def test_one_of_several_methods_is_enough() -> None:
    spec = spec_of("coft", phase1={"epochs": 2})
    check_settings_of_any(spec, ["fast", "coft-plus"], "them")
    with pytest.raises(InputError, match="none of them would look at it; it belongs to coft"):
        check_settings_of_any(spec, ["fast", "zero-shot"], "them")


def test_a_run_by_another_method_keeps_what_that_one_looks_at() -> None:
    settings = {
        "label": {"templates": ["a scan of a {}."], "top": {"per_class": 4}},
        "phase1": {"epochs": 2},
        "gate": {"max_drift": 0.9, "min_agreement": 0.9},
    }
    run = run_by(spec_of("coft", **settings), "fast")
    check_settings(run)
    kept = {"label": {"templates": ["a scan of a {}."]}, "gate": {"max_drift": 0.9}}
    assert run == spec_of("fast", **kept)


def test_a_flow_of_one_method_refuses_another() -> None:
    with pytest.raises(InputError, match="this flow runs coft or zero-shot; got fast"):
        check_method(spec_of("fast"), "coft", "zero-shot")
