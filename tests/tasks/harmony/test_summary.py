"""A state in numbers, for a terminal and a page."""

from pathlib import Path

import pytest

from tasks.harmony.page import write_page
from tasks.harmony.record import Measured, StateRef, write_accuracy
from tasks.harmony.summary import lines_of, summarize
from tests.worlds.harmony import stage_ref

CLASSES = ("cat", "<b>dog</b>")


@pytest.fixture
def state(tmp_path: Path) -> StateRef:
    first = stage_ref("photo", CLASSES, uri=str(tmp_path / "001-photo"))
    second = stage_ref("sound", (*CLASSES, "car"), number=2, uri=str(tmp_path / "002-sound"))
    return StateRef(uri=str(tmp_path), stages=(first, second))


def measured(accuracy: float) -> Measured:
    return Measured(accuracy=accuracy, guessed=accuracy / 2, count=10)


def test_what_was_not_measured_is_a_dash_and_never_a_zero(state: StateRef) -> None:
    write_accuracy(state.stages[0], {"photo": measured(0.9)})
    found = summarize(state)
    assert found.matrix == ((0.9, None), (None, None))
    assert found.forgetting is None
    assert found.average is None
    assert any("--test FILE" in line for line in lines_of(found))
    assert "not measured" in Path(write_page(state, found)).read_text()


def test_it_says_what_was_forgotten_and_which_class_is_rare(state: StateRef) -> None:
    write_accuracy(state.stages[0], {"photo": measured(0.9)})
    write_accuracy(state.stages[1], {"photo": measured(0.7), "sound": measured(0.5)})
    found = summarize(state)
    assert found.forgetting == pytest.approx(0.2)
    assert found.average == pytest.approx(0.6)
    assert [one.own for one in found.modalities] == [0.9, 0.5]
    assert found.modalities[0].guessed == pytest.approx(0.35)
    assert found.classes == {"cat": 2, "<b>dog</b>": 2, "car": 1}
    lines = lines_of(found)
    assert "classes that not every modality had: car in 1 of 2" in lines
    page = Path(write_page(state, found, "coft harmony learn")).read_text()
    assert "&lt;b&gt;dog" not in page  # only rare classes are named
    assert "<b>dog" not in page
    assert "20.0" in page
