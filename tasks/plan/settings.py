"""Which method looks at which setting: one that nothing would look at is refused, never ignored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from clipcore.baselines.method_names import TOWER_NAMES
from tasks.specs import CoftSpec, InputError, Method, Spec

OF_COFT: tuple[Method, ...] = ("coft", "coft-plus")
TUNED = cast("tuple[Method, ...]", TOWER_NAMES)
OWNERS: Mapping[str, tuple[Method, ...]] = {
    "collaboration": ("coft",),
    "flip": (*OF_COFT, *TUNED),
    "gate.min_agreement": OF_COFT,
    "gate.min_kept_share": OF_COFT,
    "label.top": OF_COFT,
    "phase1": OF_COFT,
    "phase2": OF_COFT,
    "plus": ("coft-plus",),
    "sentences": ("coft-plus",),
    "student": OF_COFT,
}
"""Whose a setting is, by where it stands; every method looks at all others."""
JUDGED = "gate"  # of what was adapted: zero-shot is not


def check_settings(spec: CoftSpec) -> None:
    """Refuse settings that the method would not look at.

    Raises:
        InputError: names the first one as an option, the method, and whose setting it is.
    """
    for path in _unseen(spec, [spec.method]):
        raise not_seen(option_of(spec, path), spec.method, _words(path))


def not_seen(option: str, method: Method, owners: str) -> InputError:
    """Return the refusal of an option that a method would not look at."""
    return InputError(
        f"{option}: --method {method} would not look at it; it belongs to --method {owners}. "
        "Leave one of them out."
    )


def seen_by_none(option: str, said: str, owners: str) -> InputError:
    """Return the refusal of an option that none of the methods, as they are called, looks at."""
    return InputError(
        f"{option}: none of {said} would look at it; it belongs to {owners}. Name one of them, or "
        "leave it out."
    )


def check_settings_of_any(spec: CoftSpec, methods: Sequence[Method], said: str) -> None:
    """Refuse settings that none of some methods would look at.

    Args:
        spec: What was asked for; its own method does not count.
        methods: The methods that it is run by.
        said: What they are called.

    Raises:
        InputError: names the first one as an option, and whose setting it is.
    """
    for path in _unseen(spec, methods):
        raise seen_by_none(option_of(spec, path), said, _words(path))


def check_method(spec: CoftSpec, *methods: Method) -> None:
    """Refuse a flow that does not run the method, and settings that it would not look at.

    Raises:
        InputError: says which flow does.
    """
    check_settings(spec)
    if spec.method not in methods:
        known = " or ".join(methods)
        raise InputError(
            f"method: this flow runs {known}; got {spec.method}. The flow flows/adapt.py runs any."
        )


def run_by(spec: CoftSpec, method: Method) -> CoftSpec:
    """Return a run by another method, without the settings that it would not look at."""
    for path in list(_unseen(spec, [method])):
        spec = _reset(spec, path.split("."))
    return spec.model_copy(update={"method": method})


def option_of(spec: Spec, path: str) -> str:
    """Return how a setting is given: `--phase2.head-learning-rate`, `--no-flip`."""
    value: Any = spec
    *groups, last = path.split(".")
    for name in (*groups, last):
        value = getattr(value, name)
    words = [*groups, f"no_{last}" if value is False else last]
    return "--" + ".".join(word.replace("_", "-") for word in words)


def _unseen(spec: CoftSpec, methods: Sequence[Method]) -> Iterator[str]:
    """Yield the settings that differ from their defaults and that no method looks at."""
    names = sorted({name.partition(".")[0] for name in (*OWNERS, JUDGED)})
    for path in _changed(spec, names):
        if not any(_looks_at(method, path) for method in methods):
            yield path


def _changed(spec: Spec, names: Sequence[str], before: str = "") -> Iterator[str]:
    """Yield where a spec differs from the defaults of its class: `label.top.per_class`."""
    for name in names:
        value, default = getattr(spec, name), type(spec).model_fields[name].default
        if value == default:
            continue
        if isinstance(value, Spec) and isinstance(default, Spec):
            yield from _changed(value, list(type(value).model_fields), f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _looks_at(method: Method, path: str) -> bool:
    owners = _owners(path)
    if owners is not None:
        return method in owners
    return method != "zero-shot" or not _is_in(path, JUDGED)


def _owners(path: str) -> tuple[Method, ...] | None:
    return next((own for name, own in OWNERS.items() if _is_in(path, name)), None)


def _is_in(path: str, group: str) -> bool:
    return f"{path}.".startswith(f"{group}.")


def _words(path: str) -> str:
    return " or ".join(_owners(path) or ("a method that adapts",))


def _reset(spec: Any, path: Sequence[str]) -> Any:
    name, *rest = path
    default = type(spec).model_fields[name].default
    value = _reset(getattr(spec, name), rest) if rest else default
    return spec.model_copy(update={name: value})
