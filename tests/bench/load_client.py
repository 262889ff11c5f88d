"""A load client in a process of its own: so many connections, each with one request at a time.

`python -m tests.bench.load_client URL CLIENTS SECONDS FILE` sends the lines of FILE, bodies in
JSON, in turn, and prints what came of it as JSON. Before it counts it warms up for a moment.
"""

import json
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

WARM_UP = 0.25  # of the time
_PATIENCE = 120  # seconds for an answer


def load(url: str, clients: int, seconds: float, bodies: list[bytes]) -> dict[str, object]:
    """Return answers a second, percentiles of the latency of those with 200, and all statuses."""
    begin = time.monotonic() + WARM_UP * seconds
    end = begin + seconds
    found: list[tuple[float, float, int]] = []  # when it ended, how long it took, its status
    threads = [
        threading.Thread(target=_client, args=(url, number, clients, end, bodies, found))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = [row for row in found if begin <= row[0] <= end]
    good = [took for _, took, status in counted if status == 200]
    p50, p99 = np.percentile(good, [50, 99]) if good else (0.0, 0.0)
    return {
        "per_second": len(good) / seconds,
        "answers": sum(status == 200 for *_, status in found),
        "p50_ms": 1000 * p50,
        "p99_ms": 1000 * p99,
        "statuses": dict(Counter(status for *_, status in counted)),
    }


def _client(
    url: str,
    number: int,
    step: int,
    end: float,
    bodies: list[bytes],
    found: list[tuple[float, float, int]],
) -> None:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=_PATIENCE)
    while (started := time.monotonic()) < end:
        try:
            body = bodies[number % len(bodies)]
            connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            status, retry = answer.status, answer.getheader("Retry-After")
        except (OSError, HTTPException):
            connection.close()
            status, retry = 0, None
        ended = time.monotonic()
        found.append((ended, ended - started, status))
        if retry is not None:
            time.sleep(float(retry))
        number += step


if __name__ == "__main__":
    address, clients, seconds, file = sys.argv[1:]
    lines = Path(file).read_bytes().splitlines()
    sys.stdout.write(json.dumps(load(address, int(clients), float(seconds), lines)) + "\n")
