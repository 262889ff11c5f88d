"""The addresses of the page, as browsers and as strangers use them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from tasks.answering.access import MOST, Door, kept_token
from tasks.answering.app import make_app
from tasks.answering.desk import Desk, Question
from tasks.answering.listed import ListedWork
from tasks.answers.journal import Journal
from tasks.answers.record import merge

TOKEN = "t" * 32
HERE = "http://127.0.0.1:8000"
CLASSES = ("cat", "dog", "<b>&")


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    made = []
    for number in range(4):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (1500, 600), (number, 0, 0)).save(file)
        made.append(Question(f"image{number}", str(file), "cat", 0.5, "why", (("cat", 0.5),)))
    (tmp_path / "3.png").write_bytes(b"no image")
    return made


@pytest.fixture
def app(tmp_path: Path, questions: list[Question]) -> Iterator[TestClient]:
    work = ListedWork("Photos", str(tmp_path / "asked"), CLASSES, questions)
    desk = Desk(Journal(work.folder, "page"))
    work.look(desk)
    starlette = make_app(work, desk, "ann", Door(TOKEN, 8000))
    with TestClient(starlette, base_url=HERE) as client:
        yield client


@pytest.fixture
def page(app: TestClient) -> TestClient:
    """Somebody who has opened the printed address."""
    assert app.get(f"/?token={TOKEN}").status_code == 200
    return app


def answer(*answers: tuple[str, str, str | None]) -> dict[str, Any]:
    return {"annotator": "ann", "answers": answers}


# --- what a page does -------------------------------------------------------------------------


def test_questions_answers_and_state(page: TestClient, tmp_path: Path) -> None:
    asked = page.post("/questions", json={"annotator": "ann", "count": 3}).json()["questions"]
    assert [one["image_id"] for one in asked] == ["image0", "image1", "image2"]
    assert "uri" not in asked[0]
    assert asked[0]["likely"] == [["cat", 0.5]]
    said = page.post("/answers", json=answer(("image0", "label", "<b>&"), ("image1", "none", None)))
    assert said.json() == {"saved": 2, "news": 2}
    decided = merge(str(tmp_path / "asked")).to_pylist()
    assert [(row["kind"], row["label"]) for row in decided] == [("label", "<b>&"), ("none", None)]
    state = page.get("/state?annotator=ann").json()
    assert (state["asked"], state["done"], state["open"], state["mine"]) == (4, 2, 2, 2)
    again = page.get("/questions/image0?annotator=ann").json()
    assert again["said"] == ["label", "<b>&"]
    assert page.post("/answers", json=answer(("image0", "undone", None))).json()["news"] == 1
    assert page.get("/state?annotator=ann").json()["done"] == 1


def test_pictures_are_small_jpegs(page: TestClient) -> None:
    for side, size in ((160, (160, 64)), (1024, (1024, 410)), (2048, (1500, 600))):
        response = page.get(f"/images/image0?side={side}")
        assert response.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(response.content)).size == size
    assert page.get("/images/image0?side=99999").status_code == 404
    assert page.get("/images/image0?side=x").status_code == 404
    assert Image.open(io.BytesIO(page.get("/images/image3").content)).size == (192, 144)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/answers", answer(("image9", "label", "cat")), "no image that is asked about"),
        ("/answers", answer(("image0", "label", "cow")), "cow: no class"),
        ("/answers", answer(("image0", "label", None)), "a label goes with the kind"),
        ("/answers", answer(("image0", "skip", "cat")), "a label goes with the kind"),
        ("/answers", answer(("image0", "conflict", None)), "no kind of answer"),
        ("/answers", {"annotator": "", "answers": []}, "annotator"),
        ("/answers", {"annotator": "a" * 101, "answers": []}, "annotator"),
        ("/answers", {"annotator": "a", "answers": [["image0", "none", None]] * 501}, "answers"),
        ("/questions", {"annotator": "ann", "count": 0}, "count"),
        ("/questions", [], "expected an object"),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(
    page: TestClient, path: str, body: object, words: str
) -> None:
    response = page.post(path, json=body)
    assert response.status_code == 400
    assert words in response.text
    assert page.get("/state").json()["done"] == 0


# --- who may do it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/facts", "/state", "/images/image0", "/?token=wrong", "/?token="]
)
def test_without_the_token_nothing_is_told(app: TestClient, path: str) -> None:
    response = app.get(path)
    assert response.status_code == 403
    assert "cat" not in response.text


def test_without_the_token_nothing_is_written(app: TestClient, tmp_path: Path) -> None:
    assert app.post("/answers", json=answer(("image0", "label", "cat"))).status_code == 403
    assert merge(str(tmp_path / "asked")).num_rows == 0


def test_the_token_stays_in_a_cookie_and_leaves_the_address(app: TestClient) -> None:
    response = app.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
        ({"content-type": "application/json", "origin": "null"}, 403),
        ({"content-type": "application/json", "origin": HERE}, 200),
    ],
)
def test_other_sites_cannot_answer(
    page: TestClient, headers: dict[str, str], status: int, tmp_path: Path
) -> None:
    body = '{"annotator": "ann", "answers": [["image0", "label", "cat"]]}'
    assert page.post("/answers", content=body, headers=headers).status_code == status
    assert merge(str(tmp_path / "asked")).num_rows == (status == 200)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/images/..%2f..%2fetc%2fpasswd",
        "/images//etc/passwd",
        "/images/%2fetc%2fpasswd",
        "/app.py",
        "/access.py",
        "/page.html",
        "/static/page.js",
        "/asked/answers",
    ],
)
def test_no_other_file_is_to_be_had(page: TestClient, path: str) -> None:
    response = page.get(path)
    assert response.status_code == 404
    assert "root:" not in response.text


def test_a_large_body_is_refused(page: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert page.post("/answers", content=b" " * (MOST + 1), headers=headers).status_code == 413

    def stream() -> Iterator[bytes]:
        yield b" "

    assert page.post("/answers", content=stream(), headers=headers).status_code == 413


def test_the_page_may_run_its_own_scripts_alone(page: TestClient) -> None:
    for path in ("/", "/page.js", "/images/image0", "/state"):
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    html = page.get("/").text
    assert "style=" not in html
    assert " on" + "click" not in html
    assert "http" not in html  # nothing is fetched from elsewhere
    assert page.request("PUT", "/answers").status_code == 405


def test_a_token_is_kept_for_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    token = kept_token("/one")
    assert len(token) >= 32
    assert kept_token("/one") == token != kept_token("/two")
    files = list((tmp_path / "coft" / "pages").iterdir())
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    files[0].write_text("{")
    files[1].write_text("{}")
    assert kept_token("/one") != token
