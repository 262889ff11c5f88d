"""Answers are asked for once and kept by content; what fails is asked for again, within bounds."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.sentences.answers import PATIENCE, ask, check_asking
from tasks.sentences.candidates import Candidate
from tasks.sentences.record import Asked
from tasks.specs import EndpointSpec, GaveUp, InputError
from tests.worlds.llm import Server, about, answers, fails, send, serving, writes

CLASSES = ["cat", "dog", "sea_lion"]
KEY = "sk-a-secret-of-this-test"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFT_ENDPOINT_KEY", KEY)


def asked_of(
    server: Server, workspace: Path, classes: list[str] = CLASSES, **changes: Any
) -> tuple[Candidate, Asked]:
    spec = EndpointSpec(**{"url": server.url, "model": "m", "timeout": 5, **changes})
    return ask(classes, spec, str(workspace), first_pause=0.001)


def well(handler: Any, request: dict[str, Any]) -> None:
    """Answer as a good model does."""
    name = next(n for n in ("cat", "dog", "sea lion") if n in about(request))
    writes(f"a {name} in the rain.", f"a photo of an old {name}.")(handler, request)


def test_each_class_is_asked_about_once_and_answers_stay(workspace: Path) -> None:
    with serving(well) as server:
        candidate, asked = asked_of(server, workspace)
        assert len(server.requests) == 3
        again, second = asked_of(server, workspace)
        assert len(server.requests) == 3
        assert again.own == candidate.own
        assert (asked.num_calls, asked.num_tokens) == (3, 150)
        assert (second.num_calls, second.num_tokens) == (0, 0)
        asked_of(server, workspace, model="another")
        assert len(server.requests) == 6
    assert candidate.own["sea_lion"] == ("a sea lion in the rain.", "a photo of an old sea lion.")
    assert [exchange.about for exchange in asked.exchanges] == CLASSES


def test_a_class_whose_answer_is_of_no_use_is_counted_and_left_out(workspace: Path) -> None:
    def partly(handler: Any, request: dict[str, Any]) -> None:
        bad = writes("<b>cat</b>", "a dog.", "a cat {0}.", "a fish.")
        (bad if "cat" in about(request) else well)(handler, request)

    with serving(partly) as server:
        candidate, asked = asked_of(server, workspace)
    assert set(candidate.own) == {"dog", "sea_lion"}
    assert candidate.dropped == {"with markup or code": 2, "off class": 2}
    assert asked.exchanges[0].dropped == candidate.dropped


def test_what_failed_is_asked_for_again_by_the_next_run(workspace: Path) -> None:
    def no_dogs(handler: Any, request: dict[str, Any]) -> None:
        (fails(400, "filtered") if "dog" in about(request) else well)(handler, request)

    with serving(no_dogs) as server:
        candidate, asked = asked_of(server, workspace)
        assert set(candidate.own) == {"cat", "sea_lion"}
        assert asked.failures == {"refused": 1}
        server.behaviours[:] = [well]
        candidate, asked = asked_of(server, workspace)
    assert set(candidate.own) == set(CLASSES)
    assert (asked.num_calls, asked.failures) == (1, {})


def test_a_server_that_does_not_answer_is_not_asked_for_ever(workspace: Path) -> None:
    names = [f"kind {number}" for number in range(50)]
    with serving(fails(500, "boom")) as server:
        with pytest.raises(GaveUp, match="server busy or broken") as gave_up:
            asked_of(server, workspace, names)
        assert len(server.requests) == 4 * PATIENCE
    assert server.url in str(gave_up.value)


def test_the_budget_leaves_the_other_classes_plain(workspace: Path) -> None:
    with serving(well) as server:
        candidate, asked = asked_of(server, workspace, max_calls=1)
        assert len(server.requests) == 1
    assert set(candidate.own) == {"cat"}
    assert asked.failures == {"budget spent": 2}


def test_classes_are_asked_about_side_by_side_once_the_first_has_its_answer(
    workspace: Path,
) -> None:
    names = ["cat", *(f"cat of kind {number}" for number in range(8))]
    together = threading.Barrier(4, timeout=20)  # passes only while four calls are open

    def four_at_once(handler: Any, request: dict[str, Any]) -> None:
        together.wait()
        well(handler, request)

    with serving(well, *[four_at_once] * 8) as server:
        _, asked = asked_of(server, workspace, names)
    assert asked.failures == {}
    assert [exchange.about for exchange in asked.exchanges] == names


def test_calls_side_by_side_share_a_budget(workspace: Path) -> None:
    names = [f"cat of kind {number}" for number in range(30)]
    with serving(well) as server:
        _, asked = asked_of(server, workspace, names, max_calls=9, at_once=8)
        assert len(server.requests) == asked.num_calls == len(asked.exchanges) == 9
    assert sum(asked.failures.values()) == 21
    assert "budget spent" in asked.failures


def test_a_refusal_ends_it_at_once(workspace: Path) -> None:
    with serving(fails(401, "wrong key")) as server:
        with pytest.raises(InputError, match="COFT_ENDPOINT_KEY"):
            asked_of(server, workspace)
        assert len(server.requests) == 1


def test_an_answer_and_the_key_reach_no_name_of_a_file(workspace: Path) -> None:
    evil = "../../etc/passwd; rm -rf ~ && '\"; drop table images; --"
    with serving(answers(f"{evil} {KEY}", usage={"total_tokens": 5})) as server:
        candidate, asked = asked_of(server, workspace, ["cat", "../../dog"])
    assert candidate.own == {}
    assert candidate.dropped == {"malformed": 2}
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        assert path.parent == workspace / "completions"
        assert path.stem.isalnum()
        assert KEY not in path.read_text()
    assert KEY not in asked.model_dump_json()


def test_half_of_a_kept_answer_is_asked_for_again(workspace: Path) -> None:
    with serving(well) as server:
        asked_of(server, workspace, ["cat", "dog"])
        for path in (workspace / "completions").iterdir():
            path.write_text(path.read_text()[:20])
        candidate, _ = asked_of(server, workspace, ["cat", "dog"])
        assert len(server.requests) == 4
    assert set(candidate.own) == {"cat", "dog"}


def test_an_answer_of_any_size_is_shown_in_part(workspace: Path) -> None:
    def much(handler: Any, request: dict[str, Any]) -> None:
        text = json.dumps({"sentences": ["a cat."], "thoughts": "x" * 90_000})
        message = {"choices": [{"message": {"content": text}}]}
        send(handler, json.dumps(message).encode())

    with serving(much) as server:
        candidate, asked = asked_of(server, workspace, ["cat"])
    assert candidate.own == {"cat": ("a cat.",)}
    assert len(asked.exchanges[0].answer) == 2000


def test_an_endpoint_that_cannot_be_asked_is_refused_unless_all_is_known(workspace: Path) -> None:
    with serving(well) as server:
        spec = EndpointSpec(url=server.url, model="m")
        check_asking(CLASSES, spec, str(workspace))
        assert server.requests == []
        asked_of(server, workspace)
    check_asking(CLASSES, spec, str(workspace))
    with pytest.raises(InputError, match="nobody answers"):
        check_asking([*CLASSES, "horse"], spec, str(workspace))
