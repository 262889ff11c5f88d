"""A path is a path, whatever characters it has; another spelling is taken where it is none."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.storage.uris import absolute, escaped, is_escaped, is_local, local_path


def made(folder: Path, name: bytes) -> bytes:
    path = os.fsencode(folder) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(name)
    return path


@given(st.binary(min_size=1, max_size=60).filter(lambda name: not set(name) & {0, ord("/")}))
def test_each_name_that_a_disk_can_have_is_found_by_its_text(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    if name in (b".", b".."):
        return
    folder = tmp_path_factory.mktemp("names")
    text = escaped(os.fsdecode(made(folder, name)))
    text.encode()  # a table can hold it
    assert local_path(text).read_bytes() == name
    assert local_path(absolute(text)).read_bytes() == name


def test_a_path_of_just_that_spelling_is_meant(tmp_path: Path) -> None:
    for name in (b"caf\xe9", rb"caf\xe9", b"a%20b", b"a b", b"~nobody"):
        made(tmp_path, name)
    assert local_path(rf"{tmp_path}/caf\xe9").read_bytes() == rb"caf\xe9"
    assert local_path(f"file://{tmp_path}/a%20b").read_bytes() == b"a%20b"
    (tmp_path / "a%20b").unlink()
    assert local_path(f"file://{tmp_path}/a%20b").read_bytes() == b"a b"
    assert local_path(f"file://localhost{tmp_path}/a%20b").read_bytes() == b"a b"
    assert local_path(f"{tmp_path}/a%20b") == tmp_path / "a%20b", "without file:// it is no URI"


def test_a_folder_may_be_called_as_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/here")
    assert local_path("~/x") == Path("/here/x")
    assert local_path("~nobody-is-called-so") == Path("~nobody-is-called-so")


def test_up_from_a_link_is_where_the_disk_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/deep/photos", "a/photos", "photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/deep")
    monkeypatch.chdir(tmp_path)
    assert absolute("link/../photos") == f"{tmp_path}/a/photos"
    assert absolute("link/photos") == f"{tmp_path}/link/photos", "links that are no matter stay"
    assert absolute("photos/../a//./photos/") == f"{tmp_path}/a/photos"
    assert absolute("s3://bucket/../x") == "s3://bucket/../x"


def test_what_stands_for_other_bytes_is_told() -> None:
    assert is_escaped(r"/a/caf\xe9")
    assert is_escaped("/a/caf\udce9")
    assert not is_escaped(r"/a/caf\x20 ü\n")


@pytest.mark.parametrize("text", ["s3:", "/a/s3://x", "./s3://x", "a://b", "FILE:///x", "a::b"])
def test_what_no_scheme_begins_is_a_path(text: str) -> None:
    assert is_local(text)


@pytest.mark.parametrize(
    "text", ["s3://b/x", "S3://b", "memory://", "zip://a::s3://b", "z::s3://b"]
)
def test_what_a_scheme_begins_is_none(text: str) -> None:
    assert not is_local(text)
