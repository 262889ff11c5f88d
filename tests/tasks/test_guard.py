"""Where a run ends, from files: what CLIP says, and what two networks say of held-out images."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.guard import Choice, choose_end, name_of
from tasks.label.table import labels_table
from tasks.refs import LabelsRef, PeerRef
from tasks.specs import Phase2Spec
from tasks.storage.checkpoints import write_tensors
from tasks.storage.layout import HELD_OUT_LOGITS, WEIGHTS
from tests.worlds.stages import CLASSES, cut, images, stage, write_stages

DIM = 8
POOL = [n for n, row in enumerate(images(DIM)[0].to_pylist()) if row["split"] == "pool"]
OUT = [n for n in POOL if n % 2 and images(DIM)[0]["duplicate_of"][n].as_py() is None]
RIGHT = torch.arange(len(images(DIM)[0])) % len(CLASSES)


def partly_wrong(share: float) -> Tensor:
    """Return labels of which a share is wrong, here and there."""
    draws = torch.rand(len(RIGHT), generator=torch.Generator().manual_seed(1))
    return torch.where(draws < share, (RIGHT + 1) % len(CLASSES), RIGHT)


class World:
    """Images in three files, and labels and networks that say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.images, self.task), self.embeddings, *_ = write_stages(folder, 25, DIM)
        self.ids = images(DIM)[0]["image_id"]
        self.class_embeddings = torch.ones(len(CLASSES), DIM)  # zero-shot would read nothing

    def zero_shot(self, labels: Tensor) -> LabelsRef:
        table = labels_table(
            self.ids.combine_chunks(),
            "zero-shot",
            labels,
            torch.ones(len(labels)),
            classes=CLASSES,
            kept=torch.ones(len(labels), dtype=torch.bool).numpy(),
        )
        uri = stage(self.folder / "labels", cut(table, 10))
        return LabelsRef(uri=uri, digest="zero-shot", source="zero-shot")

    def network(self, number: int, *epochs: dict[str, Tensor]) -> PeerRef:
        """Write what a network says of the held-out images, last ones first, after each epoch."""
        rows = OUT[::-1]
        ref = PeerRef(uri=str(self.folder / f"n{number}"), digest="n", peer=number, phase=2)
        held_out = {"images": [self.ids[row].as_py() for row in rows]}
        write_tensors(ref.uri, WEIGHTS, {"weight": torch.zeros(1)}, held_out)
        for epoch, said in enumerate(epochs):
            logits = {mix: 5 * F.one_hot(labels[rows], 3).float() for mix, labels in said.items()}
            write_tensors(ref.uri, HELD_OUT_LOGITS.format(epoch), logits, {})
        return ref

    def choose(
        self,
        zero_shot: Tensor,
        *epochs: dict[str, Tensor],
        with_zero_shot: bool = True,
        **spec: object,
    ) -> Choice:
        return choose_end(
            [self.network(number, *epochs) for number in (1, 2)],
            self.zero_shot(zero_shot),
            self.embeddings,
            self.images,
            self.task,
            Phase2Spec.model_validate({"epochs": len(epochs), **spec}),
            class_embeddings=self.class_embeddings,
            with_zero_shot=with_zero_shot,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


FEW, SOME, MANY = partly_wrong(0.1), partly_wrong(0.4), partly_wrong(0.7)


def test_a_training_that_helps_is_followed_to_its_end(world: World) -> None:
    choice = world.choose(SOME, {"0.0": SOME, "1.0": FEW}, {"1.0": RIGHT})
    assert name_of(choice.best) == "epoch 2 of Phase II"
    assert choice.best.coherence == pytest.approx(1)
    assert [name_of(one) for one in choice.candidates] == [
        "zero-shot",
        "Phase I",
        "epoch 1 of Phase II",
        "epoch 2 of Phase II",
    ]
    json.dumps(choice.facts, allow_nan=False)
    assert choice.facts["ends_in"] == "epoch 2 of Phase II"


def test_a_training_that_falls_apart_is_left_where_it_was_best(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = world.choose(SOME, {"0.0": SOME, "0.5": RIGHT, "1.0": SOME}, {"1.0": MANY})
    assert name_of(choice.best) == "epoch 1 of Phase II, 50% of the way from Phase I"
    said = capsys.readouterr().err
    assert "the run ends in epoch 1 of Phase II, 50%" in said
    assert f"coherence on {len(OUT)} held-out images: zero-shot " in said


def test_when_nothing_trained_is_as_good_it_is_clip_itself(world: World) -> None:
    epochs = {"0.0": FEW, "1.0": MANY}
    assert name_of(world.choose(RIGHT, epochs).best) == "zero-shot"
    assert name_of(world.choose(RIGHT, epochs, with_zero_shot=False).best) == "Phase I"


def test_without_held_out_images_the_last_epoch_is_taken(world: World) -> None:
    choice = world.choose(RIGHT, {"0.0": SOME, "1.0": MANY}, holdout=0)
    assert name_of(choice.best) == "epoch 1 of Phase II"


def test_without_an_epoch_it_is_phase_1_or_clip_itself(world: World) -> None:
    assert name_of(world.choose(SOME, {"0.0": FEW}, epochs=0).best) == "Phase I"
    assert name_of(world.choose(RIGHT, {"0.0": MANY}, epochs=0).best) == "zero-shot"
    assert name_of(world.choose(RIGHT, {"0.0": MANY}, epochs=0, holdout=0).best) == "Phase I"


def test_two_networks_speak_as_the_mean_of_both(world: World) -> None:
    """Where they differ the surer one decides, as in the classifier."""
    one = world.network(1, {"1.0": MANY})
    two = world.network(2, {"1.0": RIGHT})
    sure = {"1.0": 50 * F.one_hot(RIGHT[OUT[::-1]], 3).float()}
    write_tensors(two.uri, HELD_OUT_LOGITS.format(0), sure, {})
    choice = choose_end(
        [one, two],
        world.zero_shot(SOME),
        world.embeddings,
        world.images,
        world.task,
        Phase2Spec(epochs=1),
        class_embeddings=world.class_embeddings,
        with_zero_shot=True,
    )
    assert choice.best.coherence == pytest.approx(1)
