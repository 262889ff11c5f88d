"""What a row of a request may name, and what is refused: hostile rows on a real disk and server."""

import base64
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from clipcore.image_files import MAX_BYTES, MAX_PIXELS
from clipcore.images import Preprocess
from clipcore.rows import Allowed, BadRequest, BadRow, check_top_k, image_file, read_row
from tasks.specs import PoolSpec
from tests.worlds.image_files import encoded, png
from tests.worlds.images import encoded_image

IMAGE = encoded_image(1)
TEXT = base64.b64encode(IMAGE).decode()
NOWHERE = Allowed()
PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Host(BaseHTTPRequestHandler):
    """A host with an image, one that is too large, and a way to another place."""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/image.png")
            self.end_headers()
            return
        self.send_response(200 if self.path.startswith("/image") else 404)
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refused(row: dict[str, object], allowed: Allowed = NOWHERE) -> str:
    with pytest.raises(BadRow) as caught:
        image_file(row, allowed)
    return str(caught.value)


def test_limits_are_those_of_a_pool() -> None:
    assert {name: PoolSpec.model_fields[name].default for name in ("max_bytes", "max_pixels")} == {
        "max_bytes": MAX_BYTES,
        "max_pixels": MAX_PIXELS,
    }


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        bytearray(IMAGE),
        memoryview(IMAGE),
        TEXT,
        TEXT.encode(),
        f"{TEXT[:60]}\n{TEXT[60:]}\n",
        f"data:image/png;base64,{TEXT}",
        f"DATA:;BASE64,{TEXT.replace('+', '%2B').replace('=', '%3D')}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in IMAGE),
    ],
)
def test_an_image_has_many_spellings(image: object) -> None:
    assert image_file({"image": image, "path": "ignored"}, NOWHERE) == IMAGE


@pytest.mark.parametrize("row", [{}, {"image": None}, {"image": 3}, {"image": "None", "path": ""}])
def test_a_row_without_an_image_says_what_is_expected(row: dict[str, object]) -> None:
    assert refused(row).startswith("expected an image file in column `image`")


@pytest.mark.parametrize("text", ["/etc/hostname.png", "naïve", "data:image/png;base64,?", "data:"])
def test_other_texts_are_refused(text: str) -> None:
    assert "neither base64 nor a data URI" in refused({"image": text})


def test_a_file_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcore.rows.MAX_BYTES", len(IMAGE) - 1)
    assert f"at most {len(IMAGE) - 1} bytes" in refused({"image": IMAGE})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not an image", "not-an-image"),
        (IMAGE[:200], "truncated"),
        (encoded(Image.new("L", (1, 1_000_000)), "PNG"), "extreme-aspect-ratio"),
        (png(20_000, 20_000), "too-many-pixels"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "unsupported-sample-format"),
    ],
)
def test_a_bad_image_is_told_by_its_reason(data: bytes, reason: str) -> None:
    said = read_row({"image": data}, PREPROCESS, NOWHERE)
    assert isinstance(said, str)
    assert said.startswith(reason)


def test_paths_and_urls_are_off_until_somebody_names_a_place(host: str) -> None:
    assert refused({"path": __file__}).startswith("column `path` is off")
    assert refused({"url": f"http://{host}/image.png"}).startswith("column `url` is off")


def test_paths_are_held_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "b.png"):
        (tmp_path / name).write_bytes(IMAGE)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "b.png")
    allowed = Allowed(root=tmp_path / "in")
    for name in ("a.png", "x/../a.png", str(tmp_path / "in" / "a.png")):
        assert image_file({"path": name}, allowed) == IMAGE
    for name in ("../b.png", str(tmp_path / "b.png"), "link.png", "/dev/zero", "/etc/passwd"):
        assert "may only name files below" in refused({"path": name}, allowed)
    for name in ("none.png", ".", "x" * 5000, "a\0b"):
        assert re.match(
            "expected `path` to be a file|cannot read", refused({"path": name}, allowed)
        )


def test_urls_are_held_to_hosts(host: str) -> None:
    allowed = Allowed(hosts=frozenset({host}))
    assert image_file({"url": f"http://{host}/image.png"}, allowed) == IMAGE
    port = host.partition(":")[2]
    for url in (f"http://localhost:{port}/image.png", "http://127.0.0.1/image.png"):
        assert "may only name the hosts" in refused({"url": url}, allowed)
    for url in ("file:///etc/passwd", "ftp://a/b", f"http://{host}@{host}/", "http://a:x/", "//b"):
        assert "one of http or https" in refused({"url": url}, allowed)
    usual = Allowed(hosts=frozenset({"127.0.0.1"}))  # port 80 and 443 alone
    assert "may only name the hosts" in refused({"url": f"http://{host}/image.png"}, usual)


def test_nobody_is_followed_and_no_address_is_told(host: str) -> None:
    allowed = Allowed(hosts=frozenset({host}))
    assert refused({"url": f"http://{host}/elsewhere"}, allowed).endswith("the host answers 302")
    said = refused({"url": f"http://{host}/none?signature=secret"}, allowed)
    assert said.endswith("the host answers 404")
    said = refused(
        {"url": "http://127.0.0.1:9/?signature=secret"}, Allowed(hosts=frozenset({"127.0.0.1:9"}))
    )
    assert "secret" not in said


def test_hosts_and_folder_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Allowed.from_environment() == NOWHERE
    monkeypatch.setenv("COFT_IMAGE_ROOT", "images")
    monkeypatch.setenv("COFT_IMAGE_HOSTS", "A.example, b:81,")
    assert Allowed.from_environment() == Allowed(Path("images"), frozenset({"a.example", "b:81"}))


@pytest.mark.parametrize("value", [-1, "x", None, 1.5, []])
def test_top_k_is_a_number(value: object) -> None:
    with pytest.raises(BadRequest, match="expected top_k of 0"):
        check_top_k(value)
