"""`coft serve` as a process: an alias that moves, a signal, and refusals at the start."""

import base64
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from clipcore.classifier import load_classifier
from tasks.deploy.serve import serve
from tasks.serving.specs import ServeSpec
from tasks.specs import InputError, RuntimeSpec
from tasks.tracking.champion import promote
from tasks.tracking.registration import register_model
from tasks.tracking.store import Tracking, connect, tracking_for
from tests.worlds.classifier import CLASSES, save_tiny_classifier
from tests.worlds.images import encoded_image
from tests.worlds.runs import open_run
from tests.worlds.served import free_port, running

ROOT = Path(__file__).parents[3]
IMAGE = encoded_image(1)
CANARY = "canary-2f9c41"


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    """A workspace with two versions of the model `pets`, the first one the champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = tracking_for(str(tmp_path / "work"))
    run = open_run(tracking)
    for seed in (1, 2):
        bundle = save_tiny_classifier(tmp_path / f"{seed}", seed=seed)
        register_model(run, bundle, name="pets", healthy=True, evidence={"agreement": 0.9})
    promote(tracking, "pets", "1")
    yield tracking
    connect.cache_clear()


class Client(threading.Thread):
    """Asks about one image again and again, and keeps every answer."""

    def __init__(self, port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.stop = port, stop
        self.answers: list[tuple[int, str, Any]] = []
        self.broken: list[Exception] = []
        self.start()

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"inputs": [{"image": base64.b64encode(IMAGE).decode()}]})
        try:
            while not self.stop.is_set():
                connection.request(
                    "POST", "/invocations", body, {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                (said,) = json.loads(answer.read())["predictions"]
                self.answers.append((answer.status, answer.headers["coft-model"], said))
        except Exception as error:  # noqa: BLE001
            self.broken.append(error)
        finally:
            connection.close()


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_an_alias_that_moves_and_a_signal_lose_no_request(
    tracking: Tracking, tmp_path: Path
) -> None:
    port, stop = free_port(), threading.Event()
    words = f"--model models:/pets@champion --workspace work --port {port} --reload-seconds 0.1"
    program = "from flows.cli import main; main()"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "COFT_ENDPOINT_KEY": CANARY,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    command = [sys.executable, "-c", program, "serve", *words.split()]
    with running(command, environment, tmp_path, port) as server:
        clients = [Client(port, stop) for _ in range(4)]
        wait_until(lambda: all(client.answers for client in clients))
        promote(tracking, "pets", "2")
        wait_until(lambda: all(c.answers[-1][1] == "models:/pets/2" for c in clients))
        stop.set()
        for client in clients:
            client.join()
        answers = [answer for client in clients for answer in client.answers]
        assert [client.broken for client in clients] == [[]] * 4
        assert {status for status, *_ in answers} == {200}
        assert {model for _, model, _ in answers} == {"models:/pets/1", "models:/pets/2"}
        for number in ("1", "2"):  # each answer is of the version that it names
            expected = load_classifier(tmp_path / number).predict_bytes([IMAGE])[0]
            for _, model, row in answers:
                if model.endswith(number):
                    found = [row["probabilities"][name] for name in CLASSES]
                    assert found == pytest.approx(list(expected), abs=5e-3)
        _stop_in_a_request(server.pid, port)
        assert server.wait(60) == 0
    log = (tmp_path / "server.log").read_text()
    assert "Serving models:/pets/2 from here on." in log
    assert "Stopped; what was taken is answered." in log
    assert CANARY not in log


def _stop_in_a_request(pid: int, port: int) -> None:
    """Send half of a request, then the signal, then the other half: it is answered."""
    head = (
        "POST /invocations HTTP/1.1\r\nHost: coft\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(IMAGE)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(head.encode() + IMAGE[:100])
        time.sleep(1)  # until the server has read it
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            _connect_for_ever(port)
        sock.sendall(IMAGE[100:])
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")


def _connect_for_ever(port: int) -> None:
    while True:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
        time.sleep(0.1)


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    runtime = RuntimeSpec(workspace=str(tmp_path / "work"))
    model = str(save_tiny_classifier(tmp_path / "model"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = ServeSpec(port=taken.getsockname()[1])
        with pytest.raises(InputError, match=r"cannot listen at .* name another --host or --port"):
            serve(model, spec, runtime)
    with pytest.raises(InputError, match=r"expected models:/NAME@ALIAS or the folder of a model"):
        serve(str(tmp_path), ServeSpec(), runtime)
    with pytest.raises(InputError, match="nowhere: expected a folder"):
        serve(model, ServeSpec(image_root="nowhere"), runtime)
    with pytest.raises(InputError, match="--device gpu"):
        serve(model, ServeSpec(device="gpu"), runtime)
