"""What a check found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One finding: fine (True), in the way of a run (False), or good to know (None)."""

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def fine(name: str, detail: str) -> Check:
    """Return a finding that needs no thought."""
    return Check(name, ok=True, detail=detail)


def wrong(name: str, detail: str, advice: str = "") -> Check:
    """Return a finding that stops a run, and what to do about it."""
    return Check(name, ok=False, detail=detail, advice=advice)


def note(name: str, detail: str, advice: str = "") -> Check:
    """Return a finding that is good to know."""
    return Check(name, ok=None, detail=detail, advice=advice)
