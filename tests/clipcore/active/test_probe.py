"""The probe: what its features allow, out of a seed."""

from clipcore.active.probe import probe_accuracy
from tests.worlds.evidence import evidence, true_labels
from tests.worlds.tensors import random_features


def test_clear_clouds_are_told_apart_and_noise_is_not() -> None:
    given, labels = evidence(test=60), true_labels(3, 20)
    test_labels = (given.test @ given.text.T).argmax(dim=1)
    assert probe_accuracy(given.pool, labels, given.test, test_labels, seed=0) > 0.95
    noise = random_features(60, given.pool.shape[1])
    assert probe_accuracy(noise, labels, given.test, test_labels, seed=0) < 0.8


def test_equal_seeds_give_equal_accuracies() -> None:
    given, labels = evidence(spread=2.0, test=60), true_labels(3, 20)
    test_labels = (given.test @ given.text.T).argmax(dim=1)
    one, two = (
        probe_accuracy(given.pool, labels, given.test, test_labels, seed=3) for _ in range(2)
    )
    assert one == two
