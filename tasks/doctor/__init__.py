"""Look at this place before a run: what is installed, which devices, which servers, what fits."""

from tasks.doctor.checks import Check, diagnose, to_text

__all__ = ["Check", "diagnose", "to_text"]
