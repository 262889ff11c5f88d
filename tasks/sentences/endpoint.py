"""Calls of a server that speaks OpenAI's protocol; whatever it does, a call ends, and in time."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from time import monotonic, sleep
from typing import Any, NamedTuple

import httpx

from tasks.specs import EndpointSpec, InputError

MAX_BODY = 2**20  # bytes of a response
RETRIES = 3
SECONDS_TO_REACH = 10.0
LONGEST_PAUSE = 30.0  # seconds, also where the server asks for more
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504, 529))  # a later call may be answered
_THIS_ONE = frozenset((400, 413, 422, 451))  # others may be answered
_CHARACTERS = 4  # of a token, where the server does not count


class Failure(StrEnum):
    """Why a call has no answer that a later run could not still get."""

    TIME_OUT = "no answer in time"
    UNREACHABLE = "not reachable"
    BUSY = "server busy or broken"
    TOO_LARGE = "response too large"
    NO_COMPLETION = "no completion"
    REFUSED = "refused"
    BUDGET = "budget spent"
    NOT_ASKED = "not asked any more"


class NoAnswer(Exception):
    """A call has no answer; the failure says why, and the message what the server said."""

    def __init__(self, failure: Failure, said: str = "") -> None:
        super().__init__(said or failure.value)
        self.failure = failure


class Completion(NamedTuple):
    """What the model wrote, and what that cost."""

    text: str
    num_tokens: int


@dataclass
class Budget:
    """How many calls and tokens there are, and were used; calls side by side may share it."""

    calls: int
    tokens: int
    used_calls: int = 0
    used_tokens: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def take_call(self) -> bool:
        """Count one more call; return whether there was one left, and a token."""
        with self._lock:
            is_left = self.used_calls < self.calls and self.used_tokens < self.tokens
            self.used_calls += is_left
        return is_left

    def add_tokens(self, number: int) -> None:
        """Count tokens that a call used."""
        with self._lock:
            self.used_tokens += number


class Endpoint:
    """A server, the key to it, and what may be used of it; threads may share one."""

    def __init__(self, spec: EndpointSpec, key: str, *, first_pause: float = 1.0) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "coft"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.budget = Budget(spec.max_calls, spec.max_tokens)
        self._key = key
        self._timeout = spec.timeout
        self._pause = first_pause
        self._url = f"{spec.url.rstrip('/')}/chat/completions"
        # Redirects are not followed: a key is for the server that the person named.
        self._client = httpx.Client(headers=headers, timeout=spec.timeout, follow_redirects=False)

    def __enter__(self) -> "Endpoint":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def check(self) -> None:
        """Refuse a server that nobody answers for, or that refuses the key; nothing is asked.

        Raises:
            InputError: says which.
        """
        url = f"{self._url.removesuffix('/chat/completions')}/models"
        try:
            with self._client.stream("GET", url, timeout=SECONDS_TO_REACH) as response:
                status = response.status_code
        except httpx.HTTPError as error:
            msg = f"--endpoint {self._url}: nobody answers ({type(error).__name__}); check the "
            raise InputError(f"{msg}address, and that the server is up") from error
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise InputError(self._refusal(status, b""))

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """Return what the model answers; what a later call may mend is tried again.

        Raises:
            NoAnswer: there was none.
            InputError: the server refuses: the key, the model, or the request.
        """
        for attempt in range(RETRIES + 1):
            if not self.budget.take_call():
                raise NoAnswer(Failure.BUDGET)
            try:
                return self._call(body)
            except _Later as later:
                if attempt == RETRIES:
                    raise NoAnswer(later.failure) from later
                sleep(self._pause_before(attempt, later.seconds))
        raise AssertionError("the last attempt returns or raises")

    def _pause_before(self, attempt: int, asked: float) -> float:
        """Return seconds to wait, drawn so that runs side by side do not come back together."""
        own = self._pause * 2.0**attempt * random.uniform(0.5, 1)  # noqa: S311  # no secret
        return min(max(own, asked), LONGEST_PAUSE)

    def _call(self, body: Mapping[str, Any]) -> Completion:
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                data = _read(response, monotonic() + self._timeout)
        except httpx.TimeoutException as error:
            raise _Later(Failure.TIME_OUT) from error
        except httpx.TransportError as error:
            raise _Later(Failure.UNREACHABLE) from error
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise InputError(f"--endpoint: {self._hidden(str(error))}") from error
        if response.status_code in _LATER:
            raise _Later(Failure.BUSY, _seconds(response.headers.get("Retry-After", "")))
        if response.status_code in _THIS_ONE:
            raise NoAnswer(Failure.REFUSED, self._refusal(response.status_code, data))
        if response.status_code != httpx.codes.OK:
            raise InputError(self._refusal(response.status_code, data))
        text, num_tokens = _completion(data, body)
        self.budget.add_tokens(num_tokens)
        return Completion(self._hidden(text), num_tokens)

    def _refusal(self, status: int, data: bytes) -> str:
        said = " ".join(self._hidden(data.decode(errors="replace")).split())[:200]
        said = "".join(sign for sign in said if sign.isprintable())
        advice = {
            401: "check COFT_ENDPOINT_KEY",
            403: "check COFT_ENDPOINT_KEY and what it is allowed",
            404: "check the address, which ends in /v1 on most servers, and --model",
        }.get(status, "check the address and --model")
        if httpx.codes.is_redirect(status):
            said, advice = "it sends to another address", "name that one: no redirect is followed"
        return f"--endpoint {self._url}: answered {status} ({said}); {advice}"

    def _hidden(self, text: str) -> str:
        """Return a text of the server without the key, which some servers repeat."""
        return text.replace(self._key, "***") if self._key else text


class _Later(Exception):
    """A call failed, and a later one may not."""

    def __init__(self, failure: Failure, seconds: float = 0) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.seconds = seconds


def _read(response: httpx.Response, deadline: float) -> bytes:
    """Return a body, as it comes over the wire, unless it is too large or too slow."""
    data = bytearray()
    for piece in response.iter_raw():
        data += piece
        if len(data) > MAX_BODY:
            raise NoAnswer(Failure.TOO_LARGE)
        if monotonic() > deadline:
            raise _Later(Failure.TIME_OUT)
    return bytes(data)


def _completion(data: bytes, body: Mapping[str, Any]) -> Completion:
    try:
        content = json.loads(data)
        text = content["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise NoAnswer(Failure.NO_COMPLETION) from error
    if not isinstance(text, str):
        raise NoAnswer(Failure.NO_COMPLETION)
    usage = content.get("usage")
    counted = usage.get("total_tokens") if isinstance(usage, dict) else None
    is_count = isinstance(counted, int) and not isinstance(counted, bool) and counted > 0
    estimate = (len(json.dumps(body)) + len(text)) // _CHARACTERS
    return Completion(text, int(counted) if is_count and counted else estimate)


def _seconds(text: str) -> float:
    """Return how long a server asks to wait; a date, or anything else, says nothing."""
    return min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0
