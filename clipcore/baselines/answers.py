"""Answers of people as images that methods learn from."""

import torch

from clipcore.baselines.evidence import Answers, Taught


def answered(answers: Answers) -> Taught:
    """Return the images with an answer, in the order of the pool, and their classes."""
    positions = torch.nonzero(answers >= 0).flatten()
    return Taught(positions, answers[positions])
