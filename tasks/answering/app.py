"""The addresses of the page.

| address | answers |
|---|---|
| `GET /` | the page, and `page.css`, `page.js` |
| `GET /facts` | title, class names, who answers by default |
| `GET /state?annotator=` | how far all are, what is being trained, what came of it |
| `POST /questions` | the next ones for an annotator |
| `POST /answers` | 200 once they are on the disk |
| `POST /go-on` | a round from the answers so far |
| `GET /images/ID?side=` | an image that is asked about, as a JPEG |
| `GET /alike/ID` | answered images that look like it |
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tasks.annotations.schema import UNDONE
from tasks.answering.access import MOST, Door
from tasks.answering.desk import Desk, Question
from tasks.answering.pictures import SIDES, Pictures
from tasks.answering.work import Work, most_alike
from tasks.answers.journal import Said
from tasks.pages.pictures import JPEG
from tasks.specs import Spec

HERE = Path(__file__).parent
STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "saving.js": "text/javascript",
    "grid.js": "text/javascript",
    "sidebar.js": "text/javascript",
}
AT_ONCE = 500  # questions or answers of one request
_FULL = "the answers could not be written: {}; they stay in this page until they can"


class Wanted(Spec):
    """Which questions a page asks for."""

    annotator: str = Field(min_length=1, max_length=100)
    count: int = Field(gt=0, le=AT_ONCE)
    have: tuple[str, ...] = Field((), max_length=2 * AT_ONCE)
    label: str | None = None


class Given(Spec):
    """Answers of one annotator."""

    annotator: str = Field(min_length=1, max_length=100)
    answers: tuple[Said, ...] = Field(max_length=AT_ONCE)


class BadRequest(Exception):
    """What a page has sent is no request, or is about something that nobody asked."""


class _Page:
    """What the addresses answer; each method is one of them."""

    def __init__(self, work: Work, desk: Desk, annotator: str) -> None:
        self._work, self._desk, self._annotator = work, desk, annotator
        self._classes: frozenset[str] = frozenset()

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self._work.max_pixels)

    def facts(self, _: Request) -> Response:
        return JSONResponse(
            {
                "title": self._work.title,
                "classes": list(self._work.classes()),
                "annotator": self._annotator,
                "place": self._work.folder,
            }
        )

    def state(self, request: Request) -> Response:
        annotator = request.query_params.get("annotator") or self._annotator
        facts = self._work.facts(self._desk)
        return JSONResponse({**self._desk.state(annotator), **facts})

    def questions(self, wanted: Wanted) -> Response:
        taken = self._desk.take(
            wanted.annotator, wanted.count, have=frozenset(wanted.have), label=wanted.label
        )
        return JSONResponse({"questions": [_shown(one) for one in taken]})

    def question(self, request: Request) -> Response:
        """Return one question, to answer it again."""
        one = self._asked(request)
        said = self._desk.said(request.query_params.get("annotator", ""), one.image_id)
        return JSONResponse({"question": _shown(one), "said": said})

    def answers(self, given: Given) -> Response:
        self._check(given.answers)
        try:
            news = self._desk.answer(given.annotator, given.answers)
        except OSError as error:
            return PlainTextResponse(_FULL.format(error.strerror or error) + "\n", 507)
        return JSONResponse({"saved": len(given.answers), "news": news})

    def go_on(self, _: dict[str, Any]) -> Response:
        return JSONResponse({"said": self._work.go_on()})

    def image(self, request: Request) -> Response:
        side = int(request.query_params.get("side", str(SIDES[1])))
        if side not in SIDES:
            raise BadRequest(f"expected a side of {SIDES}")
        picture = self._pictures.read(self._asked(request).uri, side)
        return Response(picture, media_type=JPEG, headers={"cache-control": "private, max-age=600"})

    def alike(self, request: Request) -> Response:
        image = self._asked(request).image_id
        found = most_alike(self._work.features, image, self._desk.labels())
        names = ("image_id", "label", "similarity")
        return JSONResponse({"alike": [dict(zip(names, one, strict=True)) for one in found]})

    def _asked(self, request: Request) -> Question:
        one = self._desk.find(request.path_params["image_id"])
        if one is None:
            raise BadRequest("no image that is asked about")
        return one

    def _check(self, answers: Sequence[Said]) -> None:
        self._classes = self._classes or frozenset(self._work.classes())
        for one in answers:
            if self._desk.find(one.image_id) is None:
                raise BadRequest(f"{one.image_id[:80]}: no image that is asked about")
            if one.kind not in ("label", "none", "skip", UNDONE):
                raise BadRequest(f"{one.kind[:80]}: no kind of answer")
            if (one.kind == "label") != (one.label is not None):
                raise BadRequest("a label goes with the kind `label`, and with no other")
            if one.label is not None and one.label not in self._classes:
                raise BadRequest(f"{one.label[:80]}: no class")


def make_app(work: Work, desk: Desk, annotator: str, door: Door) -> Starlette:
    """Return the ASGI application of the page."""
    page = _Page(work, desk, annotator)
    routes = [
        Route("/", lambda _: _file("page.html", "text/html")),
        Route("/facts", _asked(page.facts)),
        Route("/state", _asked(page.state)),
        Route("/questions", _told(page.questions, Wanted), methods=["POST"]),
        Route("/questions/{image_id}", _asked(page.question)),
        Route("/answers", _told(page.answers, Given), methods=["POST"]),
        Route("/go-on", _told(page.go_on, dict[str, Any]), methods=["POST"]),
        Route("/images/{image_id}", _asked(page.image)),
        Route("/alike/{image_id}", _asked(page.alike)),
        Route("/{name}", _static),
    ]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=door)])


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("no such page\n", 404)
    return _file(name, STATIC[name])


def _file(name: str, kind: str) -> Response:
    return Response((HERE / name).read_bytes(), media_type=kind)


def _asked(answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
    """Return what answers a GET, in a thread: it may read images and tables."""

    async def respond(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request)
        except (BadRequest, ValueError) as error:
            return PlainTextResponse(f"{error}\n", 404)

    return respond


def _told(answer: Callable[[Any], Response], kind: Any) -> Callable[[Request], Any]:
    """Return what answers a POST whose body is JSON of this type."""
    adapter = TypeAdapter(kind)

    async def respond(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST:
                return PlainTextResponse(f"expected at most {MOST} bytes\n", 413)
        try:
            return await run_in_threadpool(answer, adapter.validate_json(bytes(body)))
        except (BadRequest, ValidationError) as error:
            return PlainTextResponse(f"{_sentence(error)}\n", 400)

    return respond


def _sentence(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "expected an object"
    return f"{where}: {first['msg']}"


def _shown(one: Question) -> dict[str, Any]:
    """Return what the page may know of a question: not where the image lies."""
    return {name: value for name, value in one._asdict().items() if name != "uri"}
