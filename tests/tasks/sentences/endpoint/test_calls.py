"""Calls of a server that is slow, busy, broken or hostile: each ends, and a later one may work."""

import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from infra import offline
from tasks.sentences import endpoint as module
from tasks.sentences.endpoint import MAX_BODY, RETRIES, Endpoint, Failure, NoAnswer
from tasks.specs import EndpointSpec, InputError
from tests.worlds.llm import Server, answers, fails, send, serving, writes

KEY = "sk-a-secret-of-this-test"
BODY = {"model": "m", "messages": []}
GOOD = answers("well", usage={"total_tokens": 7})


def endpoint(server: Server, **changes: Any) -> Endpoint:
    values = {"url": server.url, "model": "m", "timeout": 5, **changes}
    return Endpoint(EndpointSpec(**values), KEY, first_pause=0.001)


def slow(handler: BaseHTTPRequestHandler, _: object) -> None:
    """Send the head of a response, and then a byte from time to time, for ever."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.02)
    except OSError:
        return


def silent(handler: BaseHTTPRequestHandler, _: object) -> None:
    time.sleep(1.1)


def endless(handler: BaseHTTPRequestHandler, _: object) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"[" * 2**16)
    except OSError:
        return


def cut(handler: BaseHTTPRequestHandler, _: object) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


# --- it works -------------------------------------------------------------------------------------


def test_a_call_carries_the_key_and_counts_what_it_cost() -> None:
    with serving(GOOD) as server, endpoint(server) as llm:
        assert llm.complete(BODY) == ("well", 7)
        assert (llm.budget.used_calls, llm.budget.used_tokens) == (1, 7)
    assert server.requests == [BODY]
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"total_tokens": "many"}}])
def test_tokens_that_are_not_counted_are_estimated(usage: dict[str, Any]) -> None:
    with serving(answers("w" * 400, **usage)) as server, endpoint(server) as llm:
        assert 100 <= llm.complete(BODY).num_tokens <= 120


@pytest.mark.parametrize(
    "failing",
    [fails(429, Retry_After="0"), fails(500), fails(503, "<html>"), cut, silent],
    ids=["429", "500", "503", "cut off", "silent"],
)
def test_what_a_later_call_may_mend_is_tried_again(failing: Any) -> None:
    timeout = 1 if failing is silent else 30
    with serving(failing, failing, GOOD) as server, endpoint(server, timeout=timeout) as llm:
        assert llm.complete(BODY).text == "well"
        assert llm.budget.used_calls == 3


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("7", 7, 7), ("9000", 30, 30), ("-3", 0, 1), ("soon", 0, 1)]
)
def test_a_server_that_asks_for_time_gets_some(
    asked: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, "sleep", pauses.append)
    with serving(fails(429, Retry_After=asked), GOOD) as server, endpoint(server) as llm:
        llm.complete(BODY)
    assert len(pauses) == 1
    assert least <= pauses[0] <= most


# --- it does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "failure", "calls"),
    [
        (fails(500), Failure.BUSY, RETRIES + 1),
        (slow, Failure.TIME_OUT, RETRIES + 1),
        (endless, Failure.TOO_LARGE, 1),
        (fails(200, "<html>not JSON"), Failure.NO_COMPLETION, 1),
        (fails(200, "[" * 100_000), Failure.NO_COMPLETION, 1),
        (fails(200, '{"choices": []}'), Failure.NO_COMPLETION, 1),
        (fails(200, '{"choices": [{"message": {"content": null}}]}'), Failure.NO_COMPLETION, 1),
        (fails(200, '"text"'), Failure.NO_COMPLETION, 1),
        (fails(400, "filtered"), Failure.REFUSED, 1),
    ],
)
def test_a_call_ends_without_an_answer(behaviour: Any, failure: Failure, calls: int) -> None:
    timeout = 0.3 if behaviour is slow else 30
    with serving(behaviour) as server, endpoint(server, timeout=timeout) as llm:
        with pytest.raises(NoAnswer) as refused:
            llm.complete(BODY)
        assert refused.value.failure is failure
        assert llm.budget.used_calls == calls


def test_a_server_that_is_not_there_is_not_reachable() -> None:
    with serving(GOOD) as server:
        pass
    with endpoint(server) as llm, pytest.raises(NoAnswer) as refused:
        llm.complete(BODY)
    assert refused.value.failure is Failure.UNREACHABLE


def test_a_body_that_is_packed_small_is_not_unpacked() -> None:
    import gzip

    bomb = gzip.compress(b" " * 50 * MAX_BODY)

    def packed(handler: BaseHTTPRequestHandler, _: object) -> None:
        send(handler, bomb, Content_Encoding="gzip")

    assert len(bomb) < MAX_BODY
    with serving(packed) as server, endpoint(server) as llm, pytest.raises(NoAnswer) as refused:
        llm.complete(BODY)
    assert refused.value.failure is Failure.NO_COMPLETION


def test_what_is_on_this_machine_is_not_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(GOOD) as proxy, serving(GOOD) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        offline.apply()
        with endpoint(server) as llm:
            assert llm.complete(BODY).text == "well"
    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_no_redirect_is_followed_with_a_key(status: int) -> None:
    with serving(GOOD) as other:
        moved = fails(status, Location=f"{other.url}/chat/completions")
        with (
            serving(moved) as server,
            endpoint(server) as llm,
            pytest.raises(InputError, match="no redirect is followed"),
        ):
            llm.complete(BODY)
    assert other.requests == []


@pytest.mark.parametrize(("status", "advice"), [(401, "COFT_ENDPOINT_KEY"), (404, "--model")])
def test_a_refusal_is_told_without_the_key(status: int, advice: str) -> None:
    refusing = fails(status, f"no: Bearer {KEY}\x1b[31m\nfor you")
    with (
        serving(refusing) as server,
        endpoint(server) as llm,
        pytest.raises(InputError) as refused,
    ):
        llm.complete(BODY)
    said = str(refused.value)
    assert advice in said
    assert KEY not in said
    assert "\x1b" not in said
    assert "no: Bearer ***" in said


def test_an_answer_that_repeats_the_key_hides_it() -> None:
    with serving(answers(f"my key is {KEY}.")) as server, endpoint(server) as llm:
        assert llm.complete(BODY).text == "my key is ***."


@pytest.mark.parametrize(("limit", "calls"), [({"max_calls": 2}, 2), ({"max_tokens": 60}, 2)])
def test_the_budget_ends_it(limit: dict[str, int], calls: int) -> None:
    with serving(writes("a cat.")) as server, endpoint(server, **limit) as llm:
        for _ in range(calls):
            llm.complete(BODY)
        with pytest.raises(NoAnswer) as refused:
            llm.complete(BODY)
    assert refused.value.failure is Failure.BUDGET
    assert len(server.requests) == calls
