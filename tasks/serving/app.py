"""The addresses of a server: `/invocations` as MLflow's has it, and what an operator asks.

| address | answers |
|---|---|
| `POST /invocations` | an answer for each row; header `coft-model`: the version that gave it |
| `GET /health`, `/ping` | 200 while the process can answer at all |
| `GET /ready` | 200 while it should get requests, 503 once it stops |
| `GET /metrics` | counters, for Prometheus |
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus
from time import monotonic
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from clipcore.rows import BadRequest
from tasks.serving.places import Full
from tasks.serving.requests import NotSupported, read_request
from tasks.serving.service import Service

MODEL = "coft-model"  # a header of answers
_SMALL = 1 << 20  # bytes of a body that is read before it is refused, so that the client reads why
_INVALID = "INVALID_PARAMETER_VALUE"  # MLflow's word

logger = logging.getLogger(__name__)


class BadBody(Exception):  # as BadRow
    """A body that is too large or comes too slowly."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(
    service: Service,
    *,
    max_bytes: int,
    max_seconds: float = 60.0,
    is_stopping: Callable[[], bool] = lambda: False,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Starlette:
    """Return the ASGI application of a service.

    Args:
        service: What answers; it is closed when the application ends.
        max_bytes: Of the body of a request.
        max_seconds: In which it has to come: who sends slowly keeps a place from the others.
        is_stopping: Whether the server takes no more.
        beside: What runs as long as the application does.
    """

    async def invocations(request: Request) -> Response:
        started = monotonic()
        response = await _answered(request, service, max_bytes, max_seconds)
        service.metrics.requests.labels(str(response.status_code)).inc()
        service.metrics.seconds.observe(monotonic() - started)
        return response

    async def health(_: Request) -> Response:
        return _state(service.is_alive())

    async def ready(_: Request) -> Response:
        return _state(service.is_alive() and not is_stopping())

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/health", health),
        Route("/ping", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
    ]
    return Starlette(routes=routes, lifespan=_lifespan(service, beside))


def _lifespan(
    service: Service, beside: Callable[[], Coroutine[Any, Any, None]] | None
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(beside()) if beside else None
        try:
            yield
        finally:
            if task:
                task.cancel()
            service.close()

    return lifespan


async def _answered(
    request: Request, service: Service, max_bytes: int, max_seconds: float
) -> Response:
    """Answer a request, or say in the words of MLflow's server why not."""
    try:
        with service.places.take(1, _announced(request, max_bytes)):
            body = await _read_body(request, max_bytes, max_seconds)
            top_k = request.query_params.get("top_k", "0")
            kind = request.headers.get("content-type", "")
            inputs = service.served.model.inputs
            asked = await service.in_thread(read_request, body, kind, top_k, inputs)
            served, said = await service.answer(asked)
    except BadRequest as error:
        return _refused(415 if isinstance(error, NotSupported) else 400, str(error))
    except BadBody as error:
        return _refused(error.status, str(error), {"connection": "close"})
    except Full as error:
        await _drain(request)
        return _refused(503, str(error), {"retry-after": str(error.retry_after)})
    except ClientDisconnect:
        return _refused(499, "the client has gone")
    except Exception:  # the last door before a client
        logger.exception("a request failed")
        return _refused(500, "the model failed; the log of the server has the reason")
    return JSONResponse({"predictions": said}, headers={MODEL: served.uri})


def _announced(request: Request, max_bytes: int) -> int:
    """Return how many bytes a body will have; one of unknown length may have all that it may."""
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else max_bytes
    _check_size(size, max_bytes)
    return size


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BadBody(413, f"expected a body of at most {max_bytes} bytes")


async def _read_body(request: Request, max_bytes: int, max_seconds: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(max_seconds):
            async for chunk in request.stream():
                body += chunk
                _check_size(len(body), max_bytes)
    except TimeoutError as error:
        raise BadBody(408, f"expected the body within {max_seconds:g} seconds") from error
    return bytes(body)


async def _drain(request: Request) -> None:
    """Read a small body that nobody wants: a client that still sends does not hear the answer."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= _SMALL:
        with suppress(ClientDisconnect, RuntimeError):  # gone, or read already
            await request.body()


def _refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    code = _INVALID if status == HTTPStatus.BAD_REQUEST else str(status)
    return JSONResponse({"error_code": code, "message": message}, status, headers)


def _state(well: bool) -> Response:  # noqa: FBT001  # the answer is the state
    return PlainTextResponse("ok\n" if well else "not ready\n", 200 if well else 503)
