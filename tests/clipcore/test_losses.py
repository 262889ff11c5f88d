"""Losses against the same equations written with loops, and what learns from them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore.losses import (
    GradientMode,
    draw_complementary_labels,
    dual_logits,
    dual_prompt_loss,
    positive_loss,
    scaled_similarity,
)
from tests.worlds.tensors import draws, random_features

BATCH, CLASSES, DIM = 7, 5, 6


def random_logits(seed: int, scale: float = 5.0) -> Tensor:
    return scale * torch.randn(BATCH, CLASSES, dtype=torch.float64, generator=draws(seed))


def random_labels(seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.randint(CLASSES, (BATCH,), generator=draws(seed))
    return labels, (labels + 1 + labels % (CLASSES - 1)) % CLASSES


def l2_with_loops(positive: Tensor, negative: Tensor, labels: Tensor, others: Tensor) -> float:
    """Return CoFT Eq. 6 with its brackets, from the two-way softmax of Eq. 5."""
    total = 0.0
    for i, (y, other) in enumerate(zip(labels.tolist(), others.tolist(), strict=True)):
        clean = {}
        for k in (y, other):
            up, down = math.exp(positive[i, k]), math.exp(negative[i, k])
            clean[k] = up / (up + down)
        total += math.log(clean[y]) + math.log(1 - clean[other])
    return -total / len(labels)


def l2_of_gaps(label: float, complement: float) -> float:
    """Return L2 of one image with these logit gaps at its label and at its complement."""
    positive = torch.tensor([[label, complement]], dtype=torch.float64)
    return dual_prompt_loss(
        positive, torch.zeros_like(positive), torch.tensor([0]), torch.tensor([1])
    ).item()


# --- L1 -------------------------------------------------------------------------------------------


def test_positive_loss_is_its_equation() -> None:
    logits, (labels, _) = random_logits(0), random_labels()
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    assert positive_loss(logits, labels).item() == pytest.approx(expected / BATCH, rel=1e-12)


def test_scaled_similarity_is_cosine_times_scale_in_fp32() -> None:
    images, texts = random_features(4, DIM), random_features(3, DIM, seed=1)
    expected = [[50 * float(image @ text) for text in texts] for image in images]
    logits = scaled_similarity(images.bfloat16().float(), texts, 50.0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(scaled_similarity(images, texts, 50.0), torch.tensor(expected))
    assert scaled_similarity(images.bfloat16(), texts.bfloat16(), 50.0).dtype == torch.float32


# --- L2 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_dual_prompt_loss_is_its_equation(seed: int) -> None:
    arguments = (random_logits(seed), random_logits(seed + 10), *random_labels(seed))
    assert dual_prompt_loss(*arguments).item() == pytest.approx(
        l2_with_loops(*arguments), rel=1e-12
    )


def test_dual_prompt_loss_passes_gradcheck() -> None:
    labels, others = random_labels()
    inputs = (random_logits(0).requires_grad_(), random_logits(1).requires_grad_())
    assert torch.autograd.gradcheck(lambda p, n: dual_prompt_loss(p, n, labels, others), inputs)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_dual_prompt_loss_is_never_negative(label: float, complement: float) -> None:
    assert l2_of_gaps(label, complement) >= 0


def test_dual_prompt_loss_of_equal_prompts_is_two_log_two() -> None:
    logits = random_logits(0)
    assert dual_prompt_loss(logits, logits, *random_labels()).item() == pytest.approx(
        2 * math.log(2), rel=1e-12
    )


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 10))
def test_dual_prompt_loss_falls_as_the_right_label_gets_surer_and_the_wrong_one_less(
    label: float, complement: float, step: float
) -> None:
    before = l2_of_gaps(label, complement)
    assert l2_of_gaps(label + step, complement) < before
    assert l2_of_gaps(label, complement - step) < before


def test_the_printed_sign_would_reward_a_wrong_label_without_bound() -> None:
    """Eq. 6 without brackets: what the loss must not be, and that these tests would see it."""

    def printed(label: float, complement: float) -> float:
        return math.log1p(math.exp(-label)) + -math.log1p(math.exp(complement))

    assert printed(0, 20) < -10 < 0 < l2_of_gaps(0, 20)
    assert printed(0, 21) < printed(0, 20)
    assert l2_of_gaps(0, 21) > l2_of_gaps(0, 20)


def test_extreme_gaps_stay_finite_and_still_teach() -> None:
    """A clamp before the logarithm would have no gradient here."""
    positive = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = dual_prompt_loss(positive, torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert positive.grad is not None
    torch.testing.assert_close(positive.grad, torch.tensor([[-0.5, 0.5], [0.0, 0.0]]))


# --- who learns from L2 ---------------------------------------------------------------------------


def l2_gradients(mode: GradientMode) -> tuple[float, dict[str, Tensor | None]]:
    """Return L2 and its gradients for image features, positive and negative embeddings."""
    names = ("image", "positive", "negative")
    leaves = {
        name: random_features(BATCH if name == "image" else CLASSES, DIM, seed).requires_grad_()
        for seed, name in enumerate(names)
    }
    logits = dual_logits(*leaves.values(), 10.0, mode=mode)
    loss = dual_prompt_loss(*logits, *random_labels())
    loss.backward()
    return loss.item(), {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize(
    ("mode", "learners"),
    [
        ("paper", {"image", "negative"}),
        ("full", {"image", "positive", "negative"}),
        ("deft", {"negative"}),
    ],
)
def test_gradients_go_only_where_the_mode_says(mode: GradientMode, learners: set[str]) -> None:
    _, gradients = l2_gradients(mode)
    assert {name for name, grad in gradients.items() if grad is not None} == learners
    assert all(gradients[name].abs().sum() > 0 for name in learners)  # type: ignore[union-attr]


def test_modes_agree_on_the_value() -> None:
    assert l2_gradients("paper")[0] == l2_gradients("full")[0] == l2_gradients("deft")[0]


def test_gradient_for_the_image_is_the_derived_one() -> None:
    r"""$(1/\tau)\,[-\sigma(-z_y)(t^+_y - t^-_y) + \sigma(z_o)(t^+_o - t^-_o)]$ in mode "paper"."""
    _, gradients = l2_gradients("paper")
    image, positive, negative = (
        random_features(BATCH if seed == 0 else CLASSES, DIM, seed) for seed in range(3)
    )
    rows = []
    for v, y, other in zip(image, *random_labels(), strict=True):
        towards, away = positive[y] - negative[y], positive[other] - negative[other]
        z_label, z_other = 10 * v @ towards, 10 * v @ away
        rows.append(10 * (-torch.sigmoid(-z_label) * towards + torch.sigmoid(z_other) * away))
    torch.testing.assert_close(gradients["image"], torch.stack(rows) / BATCH)


# --- complementary labels -------------------------------------------------------------------------


@given(st.integers(2, 20), st.integers(0, 2**32), st.integers(0, 50))
def test_complementary_label_is_another_class(classes: int, seed: int, count: int) -> None:
    labels = torch.randint(classes, (count,), generator=draws(seed))
    others = draw_complementary_labels(labels, num_classes=classes, generator=draws(seed))
    assert (others != labels).all()
    assert ((others >= 0) & (others < classes)).all()


@pytest.mark.parametrize("label", [0, 2, 4])
def test_complementary_labels_are_uniform_over_the_other_classes(label: int) -> None:
    labels = torch.full((20_000,), label)
    others = draw_complementary_labels(labels, num_classes=CLASSES, generator=draws(label))
    counts = torch.bincount(others, minlength=CLASSES)
    assert counts[label] == 0
    expected = 20_000 / (CLASSES - 1)
    chi_squared = sum((int(count) - expected) ** 2 / expected for count in counts[counts > 0])
    assert chi_squared < 16.27  # the 99.9 % quantile for three degrees of freedom


def test_complementary_labels_follow_the_generator() -> None:
    labels = torch.arange(1000) % CLASSES
    one, two, other = (
        draw_complementary_labels(labels, num_classes=CLASSES, generator=draws(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_one_class_has_no_complement() -> None:
    with pytest.raises(RuntimeError):
        draw_complementary_labels(torch.tensor([0]), num_classes=1, generator=draws())
