"""The training loop: what it sums, how its rate falls, and that stopping it changes nothing."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from clipcore import checkpoint
from clipcore.fit import (
    LossTerms,
    Schedule,
    TrainingDiverged,
    TrainingSet,
    cosine,
    cycled,
    fit,
    loader,
    mixed_batches,
    resolve_epochs,
)
from tests.worlds.tensors import draws, same, training_set

SAMPLES, BATCH, EPOCHS = 23, 5, 3
SCHEDULE = Schedule(epochs=EPOCHS, batch_size=BATCH, seed=0, stream="test")
OPTIMIZERS = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3),
    "fused": lambda model: SGD(
        model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3, fused=True
    ),
    "fused adamw": lambda model: AdamW(model.parameters(), lr=0.1, weight_decay=0.05, fused=True),
    "adamw": lambda model: AdamW(
        [
            {"params": [model.weight], "lr": 0.1},
            {"params": [model.bias], "lr": 0.01, "weight_decay": 0.0},
        ],
        weight_decay=0.05,
    ),
}


def data() -> TrainingSet:
    images = torch.randint(256, (SAMPLES, 4), dtype=torch.uint8, generator=draws(1))
    return training_set(images, torch.arange(SAMPLES) % 3)


def new_model() -> nn.Linear:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.normal_(generator=draws(2))
        model.bias.zero_()
    return model


def loss_of(model: nn.Module) -> LossTerms:
    """Return a loss that also draws, as random views and complementary labels do."""

    def terms(pixels: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        noise = torch.rand(len(pixels), 1, generator=generator)
        loss = F.cross_entropy(model(pixels.float() / 255 + noise), labels)
        return {"loss": loss, "noise": noise.mean()}

    return terms


def run(optimizer: Optimizer, model: nn.Module, epochs: range) -> list[dict[str, float]]:
    return list(fit(optimizer, loss_of(model), data(), SCHEDULE, epochs=epochs))


# --- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_epochs_one_by_one_through_files_equal_one_run_bit_for_bit(
    kind: str, tmp_path: Path
) -> None:
    whole = new_model()
    history = run(OPTIMIZERS[kind](whole), whole, range(EPOCHS))
    path = tmp_path / "resume.safetensors"
    rows = []
    for epoch in range(EPOCHS):  # as in a process of its own
        model = new_model()
        optimizer = OPTIMIZERS[kind](model)
        if epoch:
            tensors, _ = checkpoint.read(str(path))
            model.load_state_dict(checkpoint.under("weights", tensors))
            checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        rows += run(optimizer, model, range(epoch, epoch + 1))
        state = {
            **checkpoint.prefixed("weights", model.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        }
        path.write_bytes(checkpoint.to_bytes(state, {"epoch": epoch}))
    assert same(model.state_dict(), whole.state_dict())
    for row, expected in zip(rows, history, strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_forgetting_the_optimizers_state_would_show(kind: str) -> None:
    whole, forgetful = new_model(), new_model()
    run(OPTIMIZERS[kind](whole), whole, range(2))
    for epoch in range(2):
        run(OPTIMIZERS[kind](forgetful), forgetful, range(epoch, epoch + 1))
    assert not same(whole.state_dict(), forgetful.state_dict())


def test_seed_stream_and_epoch_decide_the_order() -> None:
    def first_batch(schedule: Schedule, epoch: int) -> list[int]:
        found: list[Tensor] = []

        def load(batches: Any) -> Iterator[Tensor]:
            found.extend(batches)
            return iter([torch.zeros(len(batch), 4, dtype=torch.uint8) for batch in batches])

        model = new_model()
        labels = torch.zeros(SAMPLES, dtype=torch.long)
        epochs = range(epoch, epoch + 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        list(fit(optimizer, loss_of(model), TrainingSet(labels, load), schedule, epochs=epochs))
        assert sorted(torch.cat(found).tolist()) == list(range(SAMPLES))  # each image once
        assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
        order: list[int] = torch.cat(found).tolist()
        return order

    same_again = Schedule(epochs=EPOCHS, batch_size=BATCH, seed=0, stream="test")
    other_seed = Schedule(epochs=EPOCHS, batch_size=BATCH, seed=1, stream="test")
    other_stream = Schedule(epochs=EPOCHS, batch_size=BATCH, seed=0, stream="other")
    assert first_batch(SCHEDULE, 0) == first_batch(same_again, 0)
    orders = [
        first_batch(SCHEDULE, 0),
        first_batch(SCHEDULE, 1),
        first_batch(other_seed, 0),
        first_batch(other_stream, 0),
    ]
    assert all(one != two for one, two in itertools.combinations(orders, 2))


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("warm_up", "max_norm"), [(0, None), (7, None), (0, 0.2), (7, 0.2)])
def test_plain_sgd_is_the_loop_written_out(warm_up: int, max_norm: float | None) -> None:
    model, expected = new_model(), new_model()
    schedule = replace(SCHEDULE, warm_up=warm_up, max_norm=max_norm)
    training = data()
    optimizer = SGD(model.parameters(), lr=0.5)
    list(fit(optimizer, loss_of(model), training, schedule, epochs=range(EPOCHS)))
    step, total = 0, EPOCHS * math.ceil(SAMPLES / BATCH)
    for epoch in range(EPOCHS):
        generator = SCHEDULE.draws(epoch)
        for batch in torch.randperm(SAMPLES, generator=generator).split(BATCH):
            pixels = next(iter(training.load_pixels([batch])))
            loss = loss_of(expected)(pixels, training.labels[batch], generator)["loss"]
            gradients = torch.autograd.grad(loss, list(expected.parameters()))
            rate = 0.5 * 0.5 * (1 + math.cos(math.pi * step / total))
            rate *= (step + 1) / warm_up if step < warm_up else 1
            length = math.sqrt(sum(float(one.square().sum()) for one in gradients))
            rate *= min(1, max_norm / length) if max_norm else 1
            with torch.no_grad():
                for parameter, gradient in zip(expected.parameters(), gradients, strict=True):
                    parameter.sub_(rate * gradient)
            step += 1
    torch.testing.assert_close(model.weight, expected.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.bias, expected.bias, atol=1e-6, rtol=0)


def test_reported_terms_are_means_over_images_not_over_batches() -> None:
    labels = torch.arange(SAMPLES)
    model = new_model()

    def terms(pixels: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        return {"loss": 0 * model(pixels.float()).sum(), "index": labels.double().mean()}

    training = training_set(torch.zeros(SAMPLES, 4, dtype=torch.uint8), labels)
    optimizer = SGD(model.parameters(), lr=0.1)
    (row,) = fit(optimizer, terms, training, SCHEDULE, epochs=range(1))
    assert row["index"] == pytest.approx((SAMPLES - 1) / 2)
    assert row["loss"] == 0
    assert row["seconds"] > 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_rates_are_the_base_rates_again_after_every_epoch(kind: str) -> None:
    model = new_model()
    optimizer = OPTIMIZERS[kind](model)
    rates = [group["lr"] for group in optimizer.param_groups]
    for _ in fit(optimizer, loss_of(model), data(), SCHEDULE, epochs=range(EPOCHS)):
        assert [group["lr"] for group in optimizer.param_groups] == rates


def test_cosine_falls_from_one_towards_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1
    assert values[5] == pytest.approx(0.5)
    assert values[10] == pytest.approx(0)
    assert values == sorted(values, reverse=True)


@given(st.integers(1, 50), st.integers(1, 500), st.integers(1, 64), st.integers(0, 300))
def test_epochs_are_raised_just_enough_for_the_steps(
    epochs: int, samples: int, batch: int, steps: int
) -> None:
    found = resolve_epochs(epochs, num_samples=samples, batch_size=batch, min_steps=steps)
    per_epoch = math.ceil(samples / batch)
    assert found >= epochs
    assert found * per_epoch >= steps
    assert found == epochs or (found - 1) * per_epoch < steps


# --- when it goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_loss_ends_training_and_nothing_of_its_epoch_is_reported(value: float) -> None:
    model = new_model()
    steps = itertools.count()

    def terms(pixels: Tensor, labels: Tensor, generator: Generator) -> dict[str, Tensor]:
        loss = model(pixels.float() / 255).square().mean()
        return {"loss": loss * value if next(steps) == 7 else loss}

    optimizer = SGD(model.parameters(), lr=0.1)
    rows = []
    with pytest.raises(TrainingDiverged, match=r"in epoch 2.*Lower the learning rate"):
        rows.extend(fit(optimizer, terms, data(), SCHEDULE, epochs=range(EPOCHS)))
    assert len(rows) == 1  # a checkpoint is written with a row, so the last one is of that epoch


def test_a_loader_that_gives_too_little_is_an_error() -> None:
    model = new_model()
    short = TrainingSet(
        torch.zeros(SAMPLES, dtype=torch.long),
        lambda batches: iter([torch.zeros(len(batches[0]), 4, dtype=torch.uint8)]),
    )
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="shorter"):
        list(fit(optimizer, loss_of(model), short, SCHEDULE, epochs=range(1)))


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(1, 7), st.integers(1, 9), st.integers(0, 3)
)
def test_an_epoch_goes_once_through_the_longer_kind(
    labeled: int, others: int, labeled_batch: int, other_batch: int, seed: int
) -> None:
    make = mixed_batches(labeled, others, labeled_batch=labeled_batch, other_batch=other_batch)
    batches = make(draws(seed))
    steps = max(-(-labeled // labeled_batch), -(-others // other_batch))
    assert len(batches) == steps
    seen = torch.cat([*batches, torch.zeros(0, dtype=torch.long)])
    counts = torch.bincount(seen, minlength=labeled + others)
    longer_is_labeled = labeled and -(-labeled // labeled_batch) == steps
    longer = counts[:labeled] if longer_is_labeled else counts[labeled:]
    assert bool((longer == 1).all())
    for batch in batches:
        known = int((batch < labeled).sum())
        assert (known > 0) == (labeled > 0)
        assert (len(batch) - known > 0) == (others > 0)
        assert known <= labeled_batch
        assert len(batch) - known <= other_batch
        assert len(set(batch.tolist())) == len(batch)
    assert all(torch.equal(a, b) for a, b in zip(batches, make(draws(seed)), strict=True))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 20))
def test_cycled_batches_go_through_all_samples_before_any_comes_again(
    num_samples: int, batch_size: int, steps: int
) -> None:
    batches = cycled(num_samples, batch_size=batch_size, steps=steps)(draws())
    assert len(batches) == steps
    per_pass = -(-num_samples // batch_size)
    for start in range(0, steps - per_pass + 1, per_pass):
        once = torch.cat(list(batches[start : start + per_pass]))
        assert sorted(once.tolist()) == list(range(num_samples))


def test_a_loader_reads_what_each_batch_names() -> None:
    read = loader(torch.arange(10, 20).__getitem__)
    batches = [torch.tensor([3, 1]), torch.tensor([], dtype=torch.long)]
    assert [one.tolist() for one in read(batches)] == [[13, 11], []]
