"""Results of checks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The result of a check; `ok` is True, False if a run would fail, or None for information."""

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def fine(name: str, detail: str) -> Check:
    """Return a result without a problem."""
    return Check(name, ok=True, detail=detail)


def wrong(name: str, detail: str, advice: str = "") -> Check:
    """Return a problem that makes runs fail, and what to do about it."""
    return Check(name, ok=False, detail=detail, advice=advice)


def note(name: str, detail: str, advice: str = "") -> Check:
    """Return information that needs no action, or optional advice."""
    return Check(name, ok=None, detail=detail, advice=advice)
