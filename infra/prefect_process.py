"""The process of a Prefect server: a program, run by `prefect_server.py` and never imported."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def serve(listener: socket.socket) -> None:
    """Answer on a socket until the process that started this one is gone."""
    import uvicorn  # noqa: PLC0415  # below: the end of that process is looked for first
    from prefect.server.api.server import create_app  # noqa: PLC0415

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                os.write(to_starter, b"up")

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    # Whatever else is printed here is no word for the process that reads this one's output.
    to_starter = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    config = uvicorn.Config(create_app(), log_level="error", lifespan="on")
    Server(config).run(sockets=[listener])


def end_with_the_pipe() -> None:
    """Wait until nobody can write to this process any more, and end it."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)  # all that was asked is answered, and the database knows it


if __name__ == "__main__":
    # Who stops a command may stop all its processes; it still has to tell this one how it ended.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    serve(socket.socket(fileno=int(sys.argv[1])))
