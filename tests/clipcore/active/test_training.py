"""What a round trains on, against the rule written with loops, and how kinds are mixed."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcore.active.training import RoundSet, choose_training
from clipcore.fit import loader

CLASSES = 3
IMAGES = st.lists(
    st.tuples(
        st.integers(-1, CLASSES - 1),  # answer
        st.integers(0, CLASSES - 1),  # prediction
        st.integers(0, 4),  # confidence; few, so that there are ties
        st.booleans(),  # said to be of no class
    ),
    max_size=25,
)


def choose(
    images: list[tuple[int, int, int, bool]], *, per_class: int, least: int, pseudo: bool
) -> tuple[list[int], list[int]]:
    answers, predicted, confidence, none_fits = (
        torch.tensor([row[column] for row in images]) for column in range(4)
    )
    chosen = choose_training(
        answers.long(),
        predicted.long(),
        confidence.float(),
        none_fits.bool() | (answers >= 0),
        pseudo_labels=pseudo,
        num_classes=CLASSES,
        per_class=per_class,
        minimum_total=least,
    )
    assert chosen.all.tolist() == chosen.answered.tolist() + chosen.believed.tolist()
    return chosen.answered.tolist(), chosen.believed.tolist()


@given(IMAGES, st.integers(1, 4), st.integers(0, 9), st.booleans())
def test_training_images_are_the_answers_and_the_most_confident_open_images(
    images: list[tuple[int, int, int, bool]],
    per_class: int,
    least: int,
    pseudo: bool,  # noqa: FBT001
) -> None:
    answered = [n for n, (answer, *_) in enumerate(images) if answer >= 0]
    believed: list[int] = []
    if pseudo or not answered:
        k = max(per_class, -(-least // CLASSES))
        for label in range(CLASSES):
            rows = [
                n
                for n, (answer, predicted, _, none) in enumerate(images)
                if answer < 0 and not none and predicted == label
            ]
            believed += sorted(rows, key=lambda n: (-images[n][2], n))[:k]
    expected = answered, sorted(believed)
    assert choose(images, per_class=per_class, least=least, pseudo=pseudo) == expected


def test_a_round_without_answers_trains_on_pseudo_labels_whatever_the_learner() -> None:
    images = [(-1, 0, 1, False), (-1, 1, 2, False)]
    assert choose(images, per_class=1, least=0, pseudo=False) == ([], [0, 1])


def test_labels_and_inputs_of_a_round_stand_in_one_order() -> None:
    inputs = torch.arange(10) * 10
    data = RoundSet(torch.tensor([2, 0]), torch.tensor([1, 1, 2]), loader(inputs.__getitem__))
    samples = data.samples
    assert samples.labels.tolist() == [2, 0, 1, 1, 2]
    batches = [torch.tensor([4, 0]), torch.tensor([2])]
    assert [part.tolist() for part in samples.load_pixels(batches)] == [[40, 0], [20]]
    assert len(data) == 5


def test_epochs_are_raised_for_few_labels_and_nothing_trains_on_nothing() -> None:
    data = RoundSet(torch.zeros(8).long(), torch.zeros(0).long(), loader(lambda rows: rows))
    mix = {"labeled_batch": 4, "pseudo_batch": 64}
    assert data.num_epochs(3, min_steps=0, **mix) == 3
    assert data.num_epochs(3, min_steps=20, **mix) == 10
    empty = RoundSet(torch.zeros(0).long(), torch.zeros(0).long(), loader(lambda rows: rows))
    assert empty.num_epochs(3, min_steps=20, **mix) == 0
