"""The page about a night, and who gets it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect import flow
from prefect.blocks.webhook import Webhook
from pydantic import SecretStr

from tasks.nightly.change import Change, Foreign
from tasks.nightly.specs import NightlySpec
from tasks.nightly.tell import NightlyResult, post, write_digest
from tasks.promotion.settle import Decision

CHANGE = Change(
    num_images=120,
    num_new=20,
    first=False,
    enough=True,
    drift=0.25,
    by_class={"cat": 15, "<b>|dog": 5},
    foreign=(Foreign(uri="photos/`odd`|1.jpg", label="cat", cosine=0.1),),
)
DECISION = Decision(
    name="pets", version="2", champion="1", promoted=False, verdict="Not promoted: it is worse."
)
RESULT = NightlyResult(change=CHANGE, decision=DECISION)


@pytest.fixture
def posts() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Yield the address of a server, and what was posted to it."""
    taken: list[dict[str, object]] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    http = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", taken
    http.shutdown()
    http.server_close()


def spec_of(workspace: Path, webhook: str | None = None) -> NightlySpec:
    run = {
        "pool": {"images": "photos"},
        "register_as": "pets",
        "runtime": {"workspace": str(workspace)},
    }
    return NightlySpec.model_validate({"adapt": run, "webhook": webhook})


def test_a_page_says_what_was_new_and_goes_where_it_is_told(
    workspace: Path,
    prefect_session: str,
    posts: tuple[str, list[dict[str, object]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, taken = posts
    Webhook(url=SecretStr(f"{address}/hook?token=canary-of-the-hook")).save("team")
    Webhook(url=SecretStr(f"{address}/broken")).save("broken")

    @flow
    def night(webhook: str | None) -> tuple[str, bool]:
        spec = spec_of(workspace, webhook)
        return write_digest(RESULT, spec), post(RESULT, spec)

    uri, posted = night("team")
    page = Path(uri).read_text()
    assert posted
    assert "20 of 120 images are new" in page
    assert "25% of them are less like any class" in page
    assert "| 15 | cat |" in page
    assert "| 5 | &lt;b&gt;&#124;dog |" in page
    assert "Not promoted: it is worse." in page
    assert "| 0.100 | cat | photos/&#96;odd&#96;&#124;1.jpg |" in page
    (body,) = taken
    assert (body["model"], body["promoted"]) == ("pets", False)
    assert "20 of 120" in str(body["text"])

    assert night(None)[1] is False
    assert night("broken")[1] is False
    assert night("of-nobody")[1] is False
    said = capsys.readouterr().err
    assert "not posted to 'broken'" in said
    assert "not posted to 'of-nobody'" in said
    assert "canary" not in said + page
    assert len(taken) == 2
