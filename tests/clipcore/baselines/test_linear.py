"""A head that learns from labels, against steps written out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.baselines.evidence import Taught
from clipcore.baselines.linear import disturbed, learn_head
from clipcore.fit import Schedule, cosine
from clipcore.head import Head
from tests.worlds.evidence import evidence, true_labels
from tests.worlds.tensors import draws, random_features

EPOCHS, RATE = 4, 0.01
SCHEDULE = Schedule(epochs=EPOCHS, batch_size=100, seed=0, stream="test")


def everything(labels: Tensor) -> Taught:
    return Taught(torch.arange(len(labels)), labels)


def test_it_takes_the_steps_of_adamw_down_the_cross_entropy() -> None:
    given, labels = evidence(), true_labels(3, 20)
    found = learn_head(
        given.zero_shot, given.pool, lambda _: everything(labels), SCHEDULE, learning_rate=RATE
    )
    weight = given.text.clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight], RATE, weight_decay=0.0)
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = RATE * cosine(epoch, EPOCHS)
        loss = torch.zeros(())
        for one, label in zip(given.pool, labels, strict=True):
            logits = torch.stack([given.logit_scale * one @ row for row in weight])
            loss = loss - logits.log_softmax(dim=0)[label] / len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(found.head.embeddings, weight.detach(), atol=1e-4, rtol=1e-4)
    assert found.num_parameters == weight.numel()


def test_labels_are_asked_for_before_each_epoch_with_the_head_so_far() -> None:
    given, seen = evidence(), list[Tensor]()

    def believe(head: Head) -> Taught:
        seen.append(head.embeddings.clone())
        return everything(head.predict(given.pool)[0])

    learn_head(given.zero_shot, given.pool, believe, SCHEDULE)
    assert len(seen) == EPOCHS
    assert torch.equal(seen[0], given.text)
    assert not torch.equal(seen[1], seen[0])


def test_who_believes_nothing_stays_as_it_is() -> None:
    given = evidence()
    nothing = torch.zeros(0, dtype=torch.long)
    found = learn_head(given.zero_shot, given.pool, lambda _: Taught(nothing, nothing), SCHEDULE)
    assert torch.equal(found.head.embeddings, given.text)
    assert found.taught is None
    assert found.num_parameters == 0


def test_noise_of_length_one_turns_features_by_up_to_a_right_angle() -> None:
    features = random_features(50, 16)
    moved = disturbed(features, 1.0, draws(1))
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(50))
    cosines = F.cosine_similarity(moved, features)
    assert 0 < float(cosines.min()) < float(cosines.mean()) < 0.9
    assert torch.equal(disturbed(features, 0.0, draws(1)), features)
