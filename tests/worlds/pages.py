"""The page on which people answer: served in a thread or by a command, and who uses it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from PIL import Image

from tasks.answering.access import Door, kept_token
from tasks.answering.app import make_app
from tasks.answering.desk import Desk, Question
from tasks.answering.listed import ListedWork
from tasks.answers.journal import Journal
from tasks.answers.record import merge
from tasks.answers.schema import QUERY
from tests.worlds.commands import ROOT
from tests.worlds.served import free_port

PATIENCE = 240  # seconds


class Visitor:
    """Somebody who has opened the page, without a browser."""

    def __init__(self, port: int, folder: Path, name: str = "ann") -> None:
        self.name = name
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                token = kept_token(str(folder))
                self._client.get("/", params={"token": token}, follow_redirects=True)
                return
            assert time.monotonic() < deadline, "the page never came"
            time.sleep(0.05)

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def questions(self, count: int = 500) -> list[dict[str, Any]]:
        asked = self._client.post("/questions", json={"annotator": self.name, "count": count})
        found: list[dict[str, Any]] = asked.raise_for_status().json()["questions"]
        return found

    def wait_for_questions(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE
        while not (found := self.questions()):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.2)
        return found

    def wait_for_the_end(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not (found := self.state())["finished"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def answer(self, *answers: tuple[str, str, str | None]) -> None:
        body = {"annotator": self.name, "answers": answers}
        self._client.post("/answers", json=body).raise_for_status()

    def state(self) -> dict[str, Any]:
        said = self._client.get("/state", params={"annotator": self.name})
        found: dict[str, Any] = said.raise_for_status().json()
        return found


def visiting(port: int, folder: Path, does: Callable[[Visitor], None]) -> Thread:
    """Visit a page that a command of this process serves; then stop it as a supervisor does."""

    def visit() -> None:
        try:
            with Visitor(port, folder) as visitor:
                does(visitor)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = Thread(target=visit)
    thread.start()
    return thread


@contextmanager
def page_in_a_process(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that serves a page; it is killed at the end of the block."""
    command = [sys.executable, "-c", "from flows.entrance import main; main()"]
    process = subprocess.Popen(
        [*command, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def served_page(work: ListedWork, *, port: int = 0, overlap: int = 1) -> Iterator[str]:
    """Serve a page in a thread, and yield its address."""
    port = port or free_port()
    desk = Desk(Journal(work.folder, "page"), overlap=overlap)
    work.look(desk)
    token = "t" * 32
    app = make_app(work, desk, "ann", Door(token, port))
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/?token={token}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def drawn_questions(folder: Path, number: int, classes: tuple[str, ...]) -> list[Question]:
    """Return questions about drawn images; the model is right about each."""
    files = []
    for colour in range(min(number, 12)):
        file = folder / f"{colour}.png"
        Image.new("RGB", (96, 64), (20 * colour, 255 - 20 * colour, 128)).save(file)
        files.append(str(file))
    return [
        Question(
            image_id=f"{place:064x}",
            uri=files[place % len(files)],
            label=classes[place % len(classes)],
            confidence=0.5,
            reason="drawn",
            likely=tuple(
                (classes[(place + step) % len(classes)], 0.5 / (step + 1))
                for step in range(min(5, len(classes)))
            ),
        )
        for place in range(number)
    ]


def write_predictions(file: Path, questions: list[Question]) -> None:
    """Write questions as predictions that `coft label --from` takes."""
    columns = {name: [getattr(one, name) for one in questions] for name in ("image_id", "uri")}
    columns["label"] = [one.label for one in questions]
    columns["confidence"] = [one.confidence for one in questions]
    pq.write_table(pa.table(columns), file)


def query_of(questions: list[Question]) -> pa.Table:
    rows = [
        {
            **one._asdict(),
            "likely": [{"label": name, "probability": share} for name, share in one.likely],
            "position": position,
        }
        for position, one in enumerate(questions)
    ]
    return pa.Table.from_pylist(rows, schema=QUERY)


def decided(folder: Path) -> dict[str, str]:
    """Return the class, or the kind of answer, of each image in a record."""
    rows = merge(str(folder)).to_pylist()
    return {row["image_id"]: row["label"] or row["kind"] for row in rows}
