"""Images that wait go through the model together, those of another version by themselves."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.serving.batcher import Batcher, Served
from tests.worlds.service import TIMEOUT, at_work, held


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher()
    yield batcher
    batcher.stop()


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def expected(served: Served, seed: int) -> np.ndarray:
    return served.model.probabilities(torch.from_numpy(pixels(seed)[None])).numpy()[0]


def test_what_waits_while_the_model_is_at_work_is_the_next_batch(
    batcher: Batcher, tmp_path: Path
) -> None:
    served, classifier = held(tmp_path)
    with at_work(classifier):
        answers = [batcher.submit(served, pixels(0))]
        wait_until(lambda: classifier.batches == [1])
        answers += [batcher.submit(served, pixels(seed)) for seed in range(1, 40)]
        assert len(batcher) == 39
    found = [answer.result(TIMEOUT) for answer in answers]
    assert classifier.batches == [1, 32, 7]
    for seed, probabilities in enumerate(found):
        assert probabilities == pytest.approx(expected(served, seed), abs=5e-3)


def test_versions_do_not_mix(batcher: Batcher, tmp_path: Path) -> None:
    old, classifier = held(tmp_path / "old")
    new, _ = held(tmp_path / "new", seed=1)
    with at_work(classifier):
        turns = (old, old, new, old, new, new)
        answers = [batcher.submit(served, pixels(3)) for served in turns]
    for served, answer in zip(turns, answers, strict=True):
        assert answer.result(TIMEOUT) == pytest.approx(expected(served, 3), abs=5e-3)


def test_a_batch_that_fails_costs_nobody_else(
    batcher: Batcher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served, _ = held(tmp_path)
    bad = batcher.submit(served, np.zeros((3, 3), np.uint8))
    assert bad.exception(TIMEOUT) is not None
    assert batcher.submit(served, pixels(0)).result(TIMEOUT).shape == (3,)
    assert "a batch of 1 images failed" in caplog.text
    assert batcher.is_alive()


def test_what_was_taken_is_answered_before_the_end(tmp_path: Path) -> None:
    served, classifier = held(tmp_path)
    batcher = Batcher()
    with at_work(classifier):
        answers = [batcher.submit(replace(served, batch_size=2), pixels(n)) for n in range(5)]
    batcher.stop()
    assert not batcher.is_alive()
    assert all(answer.done() for answer in answers)
