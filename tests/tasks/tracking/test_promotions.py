"""The promotion log: one order for all who promote, whatever they do and wherever they die."""

import pytest

from tasks.tracking import promotions
from tasks.tracking.champion import promote, rollback
from tasks.tracking.promotions import Overtaken, append, read_log
from tasks.tracking.store import Tracking, connect
from tasks.tracking.versions import aliases_of
from tests.worlds.promoters import NAME, check, race, register_versions

pytestmark = pytest.mark.slow  # MLflow takes seconds to open a store


def test_of_twenty_at_once_one_wins_and_the_others_hear_who(tracking: Tracking) -> None:
    register_versions(tracking, 18)
    promote(tracking, NAME, "2")
    actions = ["back"] * 4 + [str(number) for number in range(3, 19)]
    won, lost = check(tracking, race(tracking, actions))
    assert won >= 1
    assert lost >= 1


def test_who_compared_with_another_champion_is_told(tracking: Tracking) -> None:
    register_versions(tracking, 3)
    promote(tracking, NAME, "2", instead_of="1")
    with pytest.raises(Overtaken, match=r"process \d+\) has made version 2 the champion at 20"):
        promote(tracking, NAME, "3", instead_of="1")
    with pytest.raises(Overtaken, match="version 3 is not"):
        promote(tracking, NAME, "3", instead_of="")
    assert aliases_of(tracking, NAME) == {"champion": "2", "previous": "1"}


def test_a_promoter_that_died_before_the_aliases_is_followed_by_the_next(
    tracking: Tracking,
) -> None:
    register_versions(tracking, 3)
    log = read_log(tracking, NAME)
    append(tracking, log, "promote", champion="2", previous="1")  # and then it dies
    assert aliases_of(tracking, NAME) == {"champion": "1"}
    promote(tracking, NAME, "3")
    assert aliases_of(tracking, NAME) == {"champion": "3", "previous": "2"}


def test_who_wanted_the_same_has_not_lost(tracking: Tracking) -> None:
    register_versions(tracking, 2)
    log = read_log(tracking, NAME)
    first = append(tracking, log, "promote", champion="2", previous="1")
    assert append(tracking, log, "promote", champion="2", previous="1") == first
    with pytest.raises(Overtaken):
        append(tracking, log, "roll back", champion="1", previous=None)


def test_what_people_do_by_hand_is_taken_over(tracking: Tracking) -> None:
    register_versions(tracking, 3)
    promote(tracking, NAME, "2")
    connect(tracking).set_registered_model_alias(NAME, "champion", "1")
    connect(tracking).delete_registered_model_alias(NAME, "previous")
    promote(tracking, NAME, "3")
    assert aliases_of(tracking, NAME) == {"champion": "3", "previous": "1"}
    assert rollback(tracking, NAME).version == "1"
    assert [event.action for event in read_log(tracking, NAME).events][-3:] == [
        "take over",
        "promote",
        "roll back",
    ]


def test_a_version_that_was_deleted_is_nobodys_alias(tracking: Tracking) -> None:
    register_versions(tracking, 3)
    promote(tracking, NAME, "2")
    append(tracking, read_log(tracking, NAME), "promote", champion="3", previous="2")
    connect(tracking).delete_model_version(NAME, "2")
    promotions.follow(tracking, NAME)
    assert aliases_of(tracking, NAME) == {"champion": "3"}
