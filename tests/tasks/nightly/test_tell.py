"""The page about a night, and who gets it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image
from prefect import flow
from prefect.blocks.webhook import Webhook
from pydantic import SecretStr

from tasks.nightly.change import NUM_DRAWN, NUM_FOREIGN, Change, NewImage
from tasks.nightly.pictures import with_pictures
from tasks.nightly.specs import NightlySpec
from tasks.nightly.tell import NightlyResult, post, write_digest
from tasks.promotion.settle import Decision
from tasks.refs import ImagesRef
from tests.worlds.image_files import noise
from tests.worlds.workspace import image_id, write_pool

CHANGE = Change(
    num_images=120,
    num_new=20,
    first=False,
    enough=True,
    drift=0.25,
    by_class={"cat": 15, "<b>|dog": 5},
    foreign=(
        NewImage(image_id=image_id(0), uri="photos/`odd`|[1](x).jpg", label="cat", cosine=0.1),
    ),
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


@pytest.fixture
def images(workspace: Path, tmp_path: Path) -> ImagesRef:
    """Return a pool of images of noise, which no JPEG makes small."""
    numbers = list(range(NUM_FOREIGN + NUM_DRAWN))
    write_pool(str(workspace), "a" * 16, numbers, folder=str(tmp_path))
    for number in numbers:
        Image.fromarray(noise(300, 200, seed=number)).save(tmp_path / f"{number}.png")
    return ImagesRef(
        uri=f"{workspace}/pool/{'a' * 16}",
        digest="a" * 16,
        num_pool=len(numbers),
        num_test=0,
        num_duplicates=1,
        num_quarantined=1,
    )


def test_a_page_says_what_was_new_and_goes_where_it_is_told(
    workspace: Path,
    images: ImagesRef,
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
        return write_digest(RESULT, images, spec), post(RESULT, spec)

    uri, posted = night("team")
    page = Path(uri).read_text()
    assert posted
    assert "20 of 120 images are new" in page
    assert "25% of them are less like any class" in page
    assert ">15</td>\n<td>cat</td>" in page
    assert ">5</td>\n<td>&lt;b&gt;|dog</td>" in page
    assert "Not promoted: it is worse." in page
    assert "<td>photos/`odd`|[1](x).jpg</td>" in page
    assert page.count("<img") == page.count("data:image/jpeg") == 1
    (body,) = taken
    assert (body["model"], body["promoted"]) == ("pets", False)
    assert "| 15 | cat |" in str(body["text"])
    assert "data:" not in str(body["text"])

    assert night(None)[1] is False
    assert night("broken")[1] is False
    assert night("of-nobody")[1] is False
    said = capsys.readouterr().err
    assert "not posted to 'broken'" in said
    assert "not posted to 'of-nobody'" in said
    assert "canary" not in said + page
    assert len(taken) == 2


def test_a_page_with_all_its_pictures_is_small(images: ImagesRef) -> None:
    shown = [
        NewImage(image_id=image_id(number), uri=f"{number}.png", label="cat", cosine=0.5)
        for number in range(NUM_FOREIGN + NUM_DRAWN)
    ]
    parts = {"foreign": tuple(shown[:NUM_FOREIGN]), "drawn": tuple(shown[NUM_FOREIGN:])}
    change = CHANGE.model_copy(update=parts)
    page = with_pictures("# Pets", "pets", change, images, max_pixels=10**6)
    assert page.count("data:image/jpeg") == len(shown)
    assert len(page) < 300_000
    assert "<h1>Pets</h1>" in page
