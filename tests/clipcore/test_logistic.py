"""Logistic regression: its optimum, and how its strength is chosen."""

import torch
import torch.nn.functional as F

from clipcore.logistic import HOLDOUT, STRENGTHS, choose_strength, fit_logistic
from tests.worlds.evidence import evidence, true_labels
from tests.worlds.tensors import draws, random_features


def test_it_stands_where_the_penalised_loss_has_no_slope() -> None:
    x, y, strength = random_features(60, 8).double(), torch.arange(60) % 3, 3.0
    found = fit_logistic(x, y, strength)
    weight = torch.tensor(found.coef_, requires_grad=True)
    bias = torch.tensor(found.intercept_, requires_grad=True)
    loss = torch.zeros((), dtype=torch.float64)
    for one, label in zip(x, y, strict=True):
        loss = loss - strength * torch.log_softmax(weight @ one + bias, dim=0)[label]
    (loss + weight.square().sum() / 2).backward()
    for slope in (weight.grad, bias.grad):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=0.05, rtol=0)


def test_the_strength_is_the_best_one_on_what_is_held_out() -> None:
    x, y = evidence(classes=4, spread=1.5).pool, true_labels(4, 20)
    order = torch.randperm(80, generator=draws(3))
    held_out, rest = order[: int(80 * HOLDOUT)], order[int(80 * HOLDOUT) :]
    right = []
    for strength in STRENGTHS:
        found = fit_logistic(x[rest], y[rest], strength).predict(x[held_out].numpy())
        right.append(sum(int(a == b) for a, b in zip(found, y[held_out].tolist(), strict=True)))
    chosen = choose_strength(x, y, draws=draws(3))
    assert chosen == STRENGTHS[right.index(max(right))]


def test_nothing_to_hold_out_or_to_tell_apart_gives_the_default() -> None:
    x = random_features(9, 4)
    assert choose_strength(x, torch.arange(9) % 2, draws=draws(), otherwise=7.0) == 7.0
    assert choose_strength(x, torch.arange(9) % 2, draws=draws()) == STRENGTHS[0]
    one_class = torch.zeros(40, dtype=torch.long)
    assert choose_strength(random_features(40, 4), one_class, draws=draws(), otherwise=7.0) == 7.0


def test_one_image_of_each_class_is_fitted_without_a_warning() -> None:
    x = F.normalize(torch.eye(4))
    assert fit_logistic(x, torch.arange(4), 10.0).predict(x.numpy()).tolist() == [0, 1, 2, 3]
