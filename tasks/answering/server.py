"""Serve the page until Ctrl-C, and open it where there is a browser."""

import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import Event, Thread

import uvicorn
from filelock import FileLock, Timeout

from infra import interrupts
from tasks.answering.access import Door, kept_token
from tasks.answering.app import make_app
from tasks.answering.desk import Desk
from tasks.answering.specs import PageSpec
from tasks.answering.work import Work
from tasks.answers.journal import Journal
from tasks.progress import say
from tasks.serving.listening import listen
from tasks.specs import InputError
from tasks.storage.uris import is_local, join, local_path

FIRST, PORTS = 49152, 16000  # ports that nobody has for good
LOOKS, LOOKS_AFAR = 1.0, 10.0  # seconds between two looks for news, on a disk and in a bucket
LOCK = "page.lock"


def serve_page(work: Work, spec: PageSpec) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        InputError: the address is taken, or another page has these questions.
    """
    with _alone(work.folder), _socket(work.folder, spec) as listening:
        port = listening.getsockname()[1]
        token = kept_token(work.folder)
        desk = Desk(Journal(work.folder, "page"), overlap=spec.overlap)
        app = make_app(work, desk, spec.annotator, Door(token, port))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        address = f"http://{_shown(spec.host)}:{port}/?token={token}"
        with interrupts.left_to_a_server(), _watching(work, desk):
            say(f"{work.title}: {address}")
            say("Every answer is saved at once. Ctrl-C ends the page.")
            if not spec.no_browser:
                _open(address)
            uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _watching(work: Work, desk: Desk) -> Iterator[None]:
    """Look for new questions, and for answers that came in otherwise, in the block."""
    over = Event()
    pause = LOOKS if is_local(work.folder) else LOOKS_AFAR

    def watch() -> None:
        told = ""
        while True:
            try:
                desk.journal.refresh()
                work.look(desk)
                told = ""
            except Exception as error:  # noqa: BLE001  # a bucket that is away for a moment
                if told != (told := f"{type(error).__name__}: {error}"):
                    say(f"Looking for questions: {told}")
            if over.wait(pause):
                return

    work.look(desk)
    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Hold the questions for one page: two would ask everybody the same.

    Raises:
        InputError: another one has them.
    """
    if not is_local(folder):
        yield
        return
    path = local_path(join(folder, LOCK))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        msg = "another page asks these questions already; open the address that it has printed"
        raise InputError(f"{folder}: {msg}") from error
    try:
        yield
    finally:
        lock.release()


def _socket(folder: str, spec: PageSpec) -> socket.socket:
    """Listen where the person said, or where the page was the last time, if nobody is there."""
    if spec.port == 0:
        usual = FIRST + int(sha256(folder.encode()).hexdigest(), 16) % PORTS
        try:
            return listen(spec.host, usual)
        except InputError:
            pass
    return listen(spec.host, spec.port)


def _shown(host: str) -> str:
    """Return the host as another machine may know it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # what it is compared with
        return socket.getfqdn()
    return f"[{host}]" if ":" in host else host


def _open(address: str) -> None:
    """Open the page where a person sits before a screen."""
    screen = (
        sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if screen and not os.environ.get("SSH_CONNECTION"):
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
