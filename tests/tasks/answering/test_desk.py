"""Who is asked what: everybody something else, or the same as often as it should be."""

from pathlib import Path

import pytest

from tasks.answering.desk import LEASE, Desk, Question, questions_of
from tasks.answers.journal import Journal, Said


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def question(number: int, label: str = "cat") -> Question:
    return Question(f"image {number}", f"/photos/{number}.png", label, 0.5, "why")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Desk:
    desk = Desk(Journal(str(tmp_path), "page"), clock=clock)
    desk.put([question(number, "cat" if number % 2 else "dog") for number in range(6)])
    return desk


def ids(questions: list[Question]) -> list[int]:
    return [int(one.image_id.split()[1]) for one in questions]


def label(number: int, name: str = "cat") -> Said:
    return Said(f"image {number}", "label", name)


def test_two_people_get_different_images_in_the_order_of_the_query(desk: Desk) -> None:
    assert ids(desk.take("ann", 2)) == [0, 1]
    assert ids(desk.take("ben", 2)) == [2, 3]
    assert ids(desk.take("ann", 9)) == [0, 1, 4, 5]  # a page that was opened again
    assert ids(desk.take("ann", 9, have=["image 0", "image 1"])) == [4, 5]


def test_who_goes_away_leaves_their_images_to_others(desk: Desk, clock: Clock) -> None:
    desk.take("ann", 6)
    assert desk.take("ben", 6) == []
    clock.now = LEASE / 2
    desk.take("ann", 1, have=["image 3"])  # which shows that the page is still there
    clock.now = LEASE + 1
    assert ids(desk.take("ben", 6)) == [1, 2, 4, 5]  # 0 and 3 are ann's


def test_an_answer_closes_an_image_and_taking_it_back_opens_it(desk: Desk) -> None:
    desk.take("ann", 6)
    desk.answer("ann", [label(0), Said("image 1", "skip", None)])
    assert desk.num_done() == 2
    assert ids(desk.take("ann", 6)) == [2, 3, 4, 5]
    desk.answer("ann", [Said("image 0", "undone", None)])
    assert desk.num_done() == 1
    assert ids(desk.take("ben", 6)) == [0]


def test_with_overlap_two_people_answer_each_image(tmp_path: Path) -> None:
    desk = Desk(Journal(str(tmp_path), "page"), overlap=2)
    desk.put([question(number) for number in range(3)])
    assert ids(desk.take("ann", 3)) == ids(desk.take("ben", 3)) == [0, 1, 2]
    assert desk.take("cat", 3) == []
    desk.answer("ann", [label(0), label(1), label(2)])
    assert desk.num_done() == 0
    desk.answer("ben", [label(0), label(1, "dog")])
    assert desk.num_done() == 2
    state = desk.state("ann")
    assert state["agreement"] == {"several": 2, "same": 1}
    assert state["annotators"] == {"ann": 3, "ben": 2}
    assert [one["image_id"] for one in state["conflicts"]] == ["image 1"]
    assert state["conflicts"][0]["votes"] == "cat 1, dog 1"
    assert desk.labels() == {"image 0": "cat", "image 2": "cat"}


def test_the_grid_asks_for_one_class(desk: Desk) -> None:
    assert ids(desk.take("ann", 9, label="cat")) == [1, 3, 5]
    assert desk.state("ann")["classes"] == {"dog": 3, "cat": 3}
    assert desk.state("ben")["classes"] == {"dog": 3}


def test_a_new_query_takes_the_place_of_the_old_one_which_may_still_be_answered(desk: Desk) -> None:
    desk.put([question(7)])
    assert ids(desk.take("ann", 9)) == [7]
    old = desk.find("image 2")
    assert old is not None
    desk.answer("ann", [label(2)])
    assert desk.said("ann", "image 2") == ("label", "cat")
    assert desk.state("ann")["asked"] == 1


def test_rows_of_a_query_are_questions() -> None:
    row = {"image_id": "a", "uri": "/a.png", "label": None, "confidence": None, "reason": None}
    more = {"round": 3, "likely": [{"label": "cat", "probability": 0.5}], "gap": None}
    (one,) = questions_of([{**row, **more}])
    assert one == Question("a", "/a.png", None, None, "", (("cat", 0.5),), 3)
    assert questions_of([{**row, "round": 0}])[0].likely == ()
