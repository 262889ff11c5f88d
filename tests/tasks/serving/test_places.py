"""No more is taken than there are places for, and who is sent away learns for how long."""

from contextlib import ExitStack

import pytest

from tasks.serving.places import Full, Places


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_images_and_bytes_are_bounded() -> None:
    places = Places(3, 100)
    with places.take(2, 60):
        with pytest.raises(Full), places.take(2):
            pytest.fail("two of one place")
        with pytest.raises(Full), places.take(1, 41):
            pytest.fail("41 of 40 bytes")
        with places.take(1, 40):
            assert places.taken == 3
    assert places.taken == 0
    with places.take(3, 100):
        assert places.taken == 3


def test_places_are_given_back_after_an_error() -> None:
    places = Places(1, 1)
    for _ in range(3):
        with pytest.raises(KeyError), places.take(1, 1):
            raise KeyError
    assert places.taken == 0


def test_who_is_sent_away_is_told_when_there_may_be_room() -> None:
    clock = Clock()
    places = Places(40, 10**6, clock=clock)
    for _ in range(100):  # ten a second
        with places.take(1):
            clock.now += 0.1
    with ExitStack() as all_of_them:
        for _ in range(40):
            all_of_them.enter_context(places.take(1))
        with pytest.raises(Full, match="busy; try again in") as caught, places.take(1):
            pytest.fail("one more than there is room for")
    assert 4 <= caught.value.retry_after <= 8


def test_a_wait_is_a_second_at_least_and_a_minute_at_most() -> None:
    clock = Clock()
    places = Places(1000, 1, clock=clock)
    with places.take(1000), pytest.raises(Full) as caught, places.take(1):
        pytest.fail("no room")
    assert caught.value.retry_after == 1  # nothing is known of the pace yet
    clock.now += 30
    with places.take(1000), pytest.raises(Full) as caught, places.take(1):
        pytest.fail("no room")
    assert caught.value.retry_after == 60
