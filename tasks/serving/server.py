"""Serve a classifier until a signal says stop: then nothing new is taken, what was is answered."""

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from clipcore.rows import Allowed
from infra import interrupts
from tasks.progress import say
from tasks.serving.app import make_app
from tasks.serving.batcher import Served
from tasks.serving.places import Places
from tasks.serving.service import Service
from tasks.serving.specs import ServeSpec
from tasks.specs import InputError

_BYTES_OF_REQUESTS = 8  # bodies of the largest size that are held at once, whatever they are of

logger = logging.getLogger(__name__)

Load = Callable[[str], Served]


def allowed_by(spec: ServeSpec) -> Allowed:
    """Return what requests may name: what was said here, else in the environment.

    Raises:
        InputError: the folder of images is none.
    """
    named = Allowed.from_environment()
    root = Path(spec.image_root) if spec.image_root else named.root
    if root is not None and not root.is_dir():
        raise InputError(f"{root}: expected a folder that `path` may name files in, found none")
    hosts = spec.image_hosts.split(",") if spec.image_hosts else named.hosts
    return Allowed(root, frozenset(host.strip().lower() for host in hosts if host.strip()))


def serve(
    listening: socket.socket,
    served: Served,
    spec: ServeSpec,
    allowed: Allowed,
    newest: tuple[Callable[[], str], Load] | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        listening: Of `listen`.
        served: The model.
        spec: How.
        allowed: Of `allowed_by`.
        newest: Returns the URI that should be served now, and loads one; None if it never changes.
    """
    places = Places(spec.max_images, _BYTES_OF_REQUESTS * spec.max_request_bytes)
    service = Service(served, allowed, places, most=min(spec.max_rows, spec.max_images))
    server: list[uvicorn.Server] = []
    app = make_app(
        service,
        max_bytes=spec.max_request_bytes,
        max_seconds=spec.request_seconds,
        is_stopping=lambda: server[0].should_exit,
        beside=None if newest is None else lambda: follow(service, *newest, spec.reload_seconds),
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=spec.stop_seconds,
    )
    server.append(uvicorn.Server(config))
    host, port = listening.getsockname()[:2]
    with interrupts.left_to_a_server():
        say(f"Serving {served.uri} at http://{host}:{port}/invocations; Ctrl-C or SIGTERM ends it.")
        server[0].run(sockets=[listening])
    say("Stopped; what was taken is answered.")


async def follow(service: Service, newest: Callable[[], str], load: Load, seconds: float) -> None:
    """Serve what should be served now, as it changes; where that fails, the model stays."""
    told = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            uri = await asyncio.to_thread(newest)
            if uri == service.served.uri:
                continue
            service.replace(await asyncio.to_thread(load, uri))
        except Exception as error:  # noqa: BLE001  # a registry that is away, a model that is broken
            service.metrics.reloads.labels("failed").inc()
            if told != (told := f"{type(error).__name__}: {error}"):
                say(f"{service.served.uri} stays: {told}")
            continue
        service.metrics.reloads.labels("loaded").inc()
        told = ""
        say(f"Serving {service.served.uri} from here on.")
