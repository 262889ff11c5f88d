"""Label the pool: zero-shot, the most confident for Phase I, then two peers judging each other."""

from tasks.label.confident import most_confident
from tasks.label.cross_filter import cross_filter, held_out
from tasks.label.people import known_answers
from tasks.label.zero_shot import label_zero_shot, read_zero_shot

__all__ = [
    "cross_filter",
    "held_out",
    "known_answers",
    "label_zero_shot",
    "most_confident",
    "read_zero_shot",
]
