"""A bucket on a real server of S3's protocol, on this machine, which fails when it is told to."""

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Literal

import fsspec
import pytest

from tasks.storage.uris import open_filesystem

Fault = (
    int | Literal["reset", "cut", "slow", "silent"]
)  # a status, or what becomes of the connection
CODES = {429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}


@dataclass
class Server:
    """Hands requests on to moto, once it has kept them and asked what shall go wrong.

    Attributes:
        requests: Method, path and query of each.
        fault: Told the same of a request; says what becomes of it, None for nothing.
        gone: Until then requests that nothing is said to wait.
    """

    app: Callable[..., Iterable[bytes]]
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    fault: Callable[[str, str, str], Fault | None] = lambda *_: None
    gone: Event = field(default_factory=Event)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        request = tuple(environ.get(name, "") for name in ("REQUEST_METHOD", "PATH_INFO"))
        self.requests.append((*request, environ.get("QUERY_STRING", "")))
        fault = self.fault(*self.requests[-1])
        if fault == "reset":
            connection: socket.socket = environ["werkzeug.socket"]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(connection.detach())
        if isinstance(fault, int):
            start(f"{fault} fault", [("Content-Type", "application/xml")])
            error = f"<Error><Code>{CODES.get(fault, 'AccessDenied')}</Code></Error>"
            return [] if request[0] == "HEAD" else [error.encode()]
        if fault == "slow":
            time.sleep(1)
        if fault == "silent":
            self.gone.wait()
        body = self.app(environ, start)
        return [b"".join(body)[:-1]] if fault == "cut" else body


@contextmanager
def s3_server(bucket: str) -> Iterator[Server]:
    """Start a server with one bucket; its address is in the environment."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # which logs each request
    server = Server(DomainDispatcherApplication(create_backend_app))
    listening = make_server("127.0.0.1", 0, server, threaded=True)
    Thread(target=listening.serve_forever, daemon=True).start()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listening.port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with pytest.MonkeyPatch.context() as environment:
            for variable, value in variables.items():
                environment.setenv(variable, value)
            # A file system is kept whatever the environment says: also that of a server which is
            # gone. What the servers hold is kept by the process.
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            filesystem, path = open_filesystem(f"s3://{bucket}")
            filesystem.mkdir(path)
            yield server
            server.fault = lambda *_: None
            server.gone.set()
            filesystem.rm(path, recursive=True)
    finally:
        listening.shutdown()


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """Start a server with one bucket, and yield its URI; its address is in the environment."""
    with s3_server(name):
        yield f"s3://{name}"
