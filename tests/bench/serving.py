"""Serving: `coft serve` beside `mlflow models serve`, the same model, clients and images.

The model has two members of the embedded tower. The servers take turns on the same cores, which
the load client shares; each answers one image a request.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from clipcore.backbone import load
from clipcore.classifier import save_classifier
from clipcore.network import new_network
from clipcore.zero_shot import class_embeddings
from tasks.storage.layout import claim_workspace
from tasks.tracking.registration import register_model
from tasks.tracking.runs import finish_run, start_run
from tasks.tracking.store import Tracking, tracking_for
from tests.bench import images
from tests.bench.measure import say
from tests.bench.pipeline import ROOT, Bench
from tests.bench.rows import Row
from tests.worlds.served import clean_environment, free_port, running, served

CLIENTS = (1, 8, 32)
AIM = 8.0  # times the throughput of the peer at the most clients
PLACES = 16  # of the server that is overloaded
PROGRAM = "from flows.cli import main; main()"


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    seconds = 1.0 if bench.quick else bench.seconds or 15.0
    tracking, bodies = _register(bench.folder / "serving"), _bodies(bench)
    cores = str(os.cpu_count())  # what PyTorch takes by itself
    with served(tracking, bench.folder, OMP_NUM_THREADS=cores) as url:
        peer = {clients: _load(url, clients, seconds, bodies) for clients in CLIENTS}
    with served(tracking, bench.folder, OMP_NUM_THREADS="1") as url:
        one_thread = _load(url, CLIENTS[-1], seconds, bodies)
    with _coft(tracking, bench.folder) as url:
        ours = {clients: _load(url, clients, seconds, bodies) for clients in CLIENTS}
    with _coft(tracking, bench.folder, f"--max-images={PLACES}") as url:
        full = _load(url, CLIENTS[-1], seconds, bodies)
    rows = [row for clients in CLIENTS for row in _rows(clients, ours[clients], peer[clients])]
    note = f"{full['statuses']}; {full['p50_ms']:.0f} / {full['p99_ms']:.0f} ms p50 / p99"
    most = ours[CLIENTS[-1]]["per_second"]
    return [
        *rows,
        Row(
            f"{CLIENTS[-1]} clients, the peer with one thread a pass: answers",
            "/s",
            most,
            one_thread["per_second"],
            most / max(one_thread["per_second"], 1e-9),
            note=f"the peer: p50 {one_thread['p50_ms']:.0f}, p99 {one_thread['p99_ms']:.0f} ms, "
            f"{one_thread['processor_ms']:.1f} ms of a processor an answer",
        ),
        Row(
            f"{CLIENTS[-1]} clients, room for {PLACES} images: answers",
            "/s",
            full["per_second"],
            note=note,
        ),
    ]


def _rows(clients: int, ours: dict[str, Any], peer: dict[str, Any]) -> Iterator[Row]:
    name = f"{clients} client{'s' if clients > 1 else ''}"
    ratio = ours["per_second"] / peer["per_second"] if peer["per_second"] else None
    yield Row(
        f"{name}: answers",
        "/s",
        ours["per_second"],
        peer["per_second"],
        ratio,
        at_least=AIM if clients == CLIENTS[-1] else None,
        note=f"statuses {ours['statuses']}, peer {peer['statuses']}",
    )
    for key, what in (
        ("p50_ms", "p50"),
        ("p99_ms", "p99"),
        ("processor_ms", "processor time of an answer"),
    ):
        ratio = ours[key] / peer[key] if peer[key] else None
        yield Row(f"{name}: {what}", "ms", ours[key], peer[key], ratio)


def save_model(folder: Path) -> Path:
    """Write a classifier of two networks of the embedded tower, that sorts as zero-shot does."""
    backbone = load("embedded")
    head = class_embeddings(backbone, images.CLASSES, ["a photo of a {}."])
    state = new_network(backbone.visual, head, 100.0).state_dict()
    save_classifier(
        folder,
        [state, state],
        classes=images.CLASSES,
        config=backbone.config,
        preprocess=backbone.visual.preprocess,
        facts={},
    )
    return folder


def _register(workspace: Path) -> Tracking:
    """Register the model as the candidate of the name `pets`."""
    claim_workspace(str(workspace))
    bundle = save_model(workspace / "model")
    tracking = tracking_for(str(workspace))
    run = start_run(tracking, experiment="coft", name="pets", digest="d" * 16, params={})
    register_model(run, bundle, name="pets", healthy=True, evidence={"agreement": 1.0})
    finish_run(run)
    return tracking


def _bodies(bench: Bench) -> Path:
    """Write requests of one image each."""
    photos = bench.folder / "requests"
    say(images.write_photos(photos, 32 if bench.quick else 256))
    encoded = (base64.b64encode(path.read_bytes()).decode() for path in sorted(photos.iterdir()))
    lines = (json.dumps({"dataframe_records": [{"image": image}]}) for image in encoded)
    (bench.folder / "bodies.jsonl").write_text("\n".join(lines))
    shutil.rmtree(photos)
    return bench.folder / "bodies.jsonl"


@contextmanager
def _coft(tracking: Tracking, folder: Path, *options: str) -> Iterator[str]:
    port = free_port()
    place = str(tracking.home)
    words = ["serve", "--model=models:/pets@candidate", f"--workspace={place}", f"--port={port}"]
    clean = {k: v for k, v in clean_environment(tracking).items() if k != "OMP_NUM_THREADS"}
    environment = {**clean, "PYTHONPATH": str(ROOT)}
    with running([sys.executable, "-c", PROGRAM, *words, *options], environment, folder, port):
        yield f"http://127.0.0.1:{port}/invocations"


def _load(url: str, clients: int, seconds: float, bodies: Path) -> dict[str, Any]:
    """Return what the load client found, and the processor time of the server for an answer."""
    command = [sys.executable, "-m", "tests.bench.load_client", url, str(clients), str(seconds)]
    before = _processor_seconds()
    done = subprocess.run([*command, str(bodies)], cwd=ROOT, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    spent = _processor_seconds() - before
    found["processor_ms"] = 1000 * spent / max(1, found["answers"])
    say(f"  {clients} clients: {found}")
    return found


def _processor_seconds() -> float:
    """Return what the processes that this one started have used; the client has ended by then."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(time.user + time.system for time in times))
