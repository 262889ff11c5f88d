"""A real server of HTTP on loopback that answers as it is told, well or badly, and remembers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
"""Answers a request, given the handler of its connection and its body."""


@dataclass
class Server:
    """What a server was asked, and how it answers the next requests; the last way goes on."""

    url: str
    behaviours: list[Behaviour] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def completion(content: str | None, **more: Any) -> dict[str, Any]:
    """Return a body as a model's server sends it."""
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message}], **more}


def send(
    handler: BaseHTTPRequestHandler, data: bytes, *, status: int = 200, **headers: str
) -> None:
    """Send a response."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def answers(content: str, **more: Any) -> Behaviour:
    """Return the behaviour of a model that always writes the same."""
    data = json.dumps(completion(content, **more)).encode()
    return lambda handler, _: send(handler, data)


def writes(*sentences: object, tokens: int = 50) -> Behaviour:
    """Return the behaviour of a model that writes these sentences in the form that is asked for."""
    return answers(json.dumps({"sentences": sentences}), usage={"total_tokens": tokens})


def fails(status: int, text: str = "", **headers: str) -> Behaviour:
    """Return the behaviour of a server that refuses or breaks."""
    return lambda handler, _: send(handler, text.encode(), status=status, **headers)


def about(request: dict[str, Any]) -> str:
    """Return the question of a request."""
    return str(request["messages"][-1]["content"])


@contextmanager
def serving(*behaviours: Behaviour) -> Iterator[Server]:
    """Serve on a free port of loopback, each connection in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append(request)
            state.headers.append(dict(self.headers))
            state.paths.append(self.path)
            ways = state.behaviours
            (ways.pop(0) if len(ways) > 1 else ways[0])(self, request)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Server(f"http://127.0.0.1:{server.server_port}/v1", list(behaviours))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
