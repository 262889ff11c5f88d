"""The round trip through a real Label Studio: import our tasks, answer, export, import back.

It runs only where LABEL_STUDIO_PROGRAM names an installed executable, since the project does not
depend on it; `make label-studio` installs one and runs this.

The server listens on loopback only, keeps SQLite in a temporary folder, and reports to nobody.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pyarrow as pa
import pytest

from tasks.annotations.reading import read_answers
from tasks.answers.label_studio import write_tasks
from tasks.answers.record import import_answers, merge

PROGRAM = os.environ.get("LABEL_STUDIO_PROGRAM")
TOKEN = "0123456789abcdef0123456789abcdef01234567"  # noqa: S105  # of a server that lives a minute
pytestmark = [
    pytest.mark.slow,
    pytest.mark.label_studio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        PROGRAM is None or shutil.which(PROGRAM) is None,
        reason="LABEL_STUDIO_PROGRAM names no installed label-studio",
    ),
]
QUIET = {
    "COLLECT_ANALYTICS": "false",
    "DJANGO_DB": "sqlite",
    "FEATURE_FLAGS_OFFLINE": "true",
    "FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
}


class Api:
    """Calls of one server's API with the token of its first user."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> bytes:
        return self._send(urllib.request.Request(self.address + path))  # noqa: S310

    def post(self, path: str, value: object) -> Any:
        request = urllib.request.Request(  # noqa: S310
            self.address + path, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(self._send(request))

    def upload(self, path: str, file: Path) -> Any:
        """Post a file as the import page of a browser does."""
        head = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
        body = head.encode() + b"Content-Type: application/json\r\n\r\n" + file.read_bytes()
        headers = {"Content-Type": "multipart/form-data; boundary=X"}
        request = urllib.request.Request(  # noqa: S310
            self.address + path, body + b"\r\n--X--\r\n", headers
        )
        return json.loads(self._send(request))

    def answer(self, task: int, choice: str | None, **more: Any) -> None:
        value = {"type": "choices", "value": {"choices": [choice]}}
        result = [{"from_name": "choice", "to_name": "image", **value}] if choice else []
        self.post(f"/api/tasks/{task}/annotations", {"result": result, **more})

    def export(self, project: int, kind: str, target: Path) -> Path:
        target.write_bytes(self.get(f"/api/projects/{project}/export?exportType={kind}"))
        return target

    def _send(self, request: urllib.request.Request) -> bytes:
        request.add_header("Authorization", f"Token {TOKEN}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except HTTPError as error:
            pytest.fail(f"{request.full_url}: {error.code} {error.read()[:1000]!r}")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [
        *(str(PROGRAM), "start", "--no-browser", "--internal-host", "127.0.0.1"),
        *("--port", str(port), "--data-dir", str(folder), "--enable-legacy-api-token"),
        *("--username", "a@example.org", "--password", "only-for-a-minute"),
        *("--user-token", TOKEN),
    ]
    environment = {**os.environ, **QUIET, "HOME": str(folder)}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, folder / "server.log")
        yield Api(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"Label Studio did not answer at {url}:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def colleague(api: Api) -> int:
    person = {"email": "b@example.org", "username": "b", "password": "only-for-a-minute"}
    number: int = api.post("/api/users", person)["id"]
    return number


def _open_project(api: Api, config: Path, files: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """Make a project with our files, and return it with the tasks by image id."""
    text = config.read_text(encoding="utf-8")
    project = api.post("/api/projects", {"title": "round 2", "label_config": text})["id"]
    for file in files:
        api.upload(f"/api/projects/{project}/import", Path(file))
    page = json.loads(api.get(f"/api/tasks?project={project}&page_size=100&fields=all"))
    return project, {task["data"]["image_id"]: task["id"] for task in page["tasks"]}


def _answer(api: Api, tasks: list[int], colleague: int) -> None:
    """Label, disagree, skip, and find none of the classes; two tasks stay open."""
    api.answer(tasks[0], "cat")
    api.answer(tasks[1], 'a <b> & "c"')
    api.answer(tasks[2], "None of these classes")
    api.answer(tasks[3], None, was_cancelled=True)
    api.answer(tasks[4], "cat")
    api.answer(tasks[4], "dog", completed_by=colleague)
    api.answer(tasks[5], "Ünicorn")
    api.answer(tasks[5], None, completed_by=colleague, was_cancelled=True)


def test_round_trip(
    api: Api,
    colleague: int,
    tmp_path: Path,
    pool: pa.Table,
    make_query: Callable[..., pa.Table],
    classes: tuple[str, ...],
) -> None:
    query = make_query()
    ids = query["image_id"].to_pylist()
    written = write_tasks(
        str(tmp_path / "tasks"), query, classes=classes, model="m/1", max_pixels=10**6
    )
    project, tasks = _open_project(api, Path(written.config), written.files)
    assert tasks.keys() == set(ids)

    _answer(api, [tasks[image_id] for image_id in ids], colleague)
    full = api.export(project, "JSON", tmp_path / "full.json")
    small = api.export(project, "JSON_MIN", tmp_path / "small.json")
    columns = api.export(project, "CSV", tmp_path / "columns.csv")

    def add(file: Path) -> Any:
        folder, asked = str(tmp_path / "rounds"), frozenset(ids)
        return import_answers(folder, str(file), classes=classes, pool=[pool], queried=asked)

    first = add(full)
    assert (first.num_answers, first.num_new, first.num_skipped, first.num_none) == (8, 8, 2, 1)
    assert (first.num_unknown_images, first.num_unknown_labels) == (0, 0)
    assert (first.conflicts, first.num_missing) == ((ids[4],), 2)
    assert add(full).imported_before
    merged = merge(str(tmp_path / "rounds")).to_pylist()
    assert {row["image_id"]: (row["kind"], row["label"]) for row in merged} == {
        ids[0]: ("label", "cat"),
        ids[1]: ("label", classes[2]),
        ids[2]: ("none", None),
        ids[3]: ("skip", None),
        ids[4]: ("conflict", None),
        ids[5]: ("label", "Ünicorn"),
    }

    for file in (small, columns):  # neither format has the two skips
        report = add(file)
        assert (report.num_answers, report.num_repeated, report.num_changed) == (6, 6, 0)
        assert merge(str(tmp_path / "rounds")).to_pylist() == merged

    api.answer(tasks[ids[4]], "dog")  # the first person thinks again
    later = add(api.export(project, "JSON", tmp_path / "later.json"))
    assert (later.num_changed, later.conflicts) == (1, ())
    times = read_answers(str(tmp_path / "later.json"), classes)["answered_at"]
    assert times.null_count == 0


def test_predictions_and_hostile_names_arrive(
    api: Api, tmp_path: Path, make_query: Callable[..., pa.Table]
) -> None:
    names = ("<script>alert(1)</script>", "'\"&;", "name=\"image\" toName='why'", "ü 🦓", "5 $x")
    names += tuple(f"class {number}" for number in range(40))
    query = make_query(label=[*names[:5], *names[-3:]])
    written = write_tasks(str(tmp_path), query, classes=names, model="m/1", max_pixels=10**6)
    project, tasks = _open_project(api, Path(written.config), written.files)
    for image_id, name in zip(query["image_id"].to_pylist(), names, strict=False):
        api.answer(tasks[image_id], name)
        task = json.loads(api.get(f"/api/tasks/{tasks[image_id]}"))
        choices = [p["result"][0]["value"]["choices"] for p in task["predictions"]]
        assert choices == [[task["data"]["predicted"]]]
        assert task["data"]["image"].startswith("data:image/jpeg;base64,")
    for kind in ("JSON", "JSON_MIN", "CSV"):
        table = read_answers(str(api.export(project, kind, tmp_path / kind)), names)
        assert set(table["label"].to_pylist()) == set(names[:8])
