"""Answers as a training set."""

import torch

from clipcore.baselines.answers import answered


def test_answers_are_read_in_the_order_of_the_pool() -> None:
    positions, labels = answered(torch.tensor([-1, 2, -1, 0, 2]))
    assert positions.tolist() == [1, 3, 4]
    assert labels.tolist() == [2, 0, 2]


def test_no_answer_is_an_empty_set() -> None:
    positions, labels = answered(torch.full((4,), -1))
    assert len(positions) == len(labels) == 0
