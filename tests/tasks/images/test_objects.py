"""Buckets: each object found once and read whole, in few requests, from a server that may fail."""

import io
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from tasks.images import objects as of_buckets
from tasks.images import sources
from tasks.images.listing import SourceUnreadable
from tasks.images.objects import FileTooLarge, objects_in
from tasks.images.sources import list_source, read_images
from tasks.specs import RuntimeSpec
from tasks.storage import drivers
from tasks.storage.uris import open_filesystem
from tests.worlds.bucket import Fault, Server, s3_server
from tests.worlds.images import encoded_image
from tests.worlds.pools import bad_rows_of, images_of

BUCKET = "s3://photos"


@pytest.fixture(scope="module")
def of_module() -> Iterator[Server]:
    with s3_server("photos") as server:
        yield server


@pytest.fixture
def server(of_module: Server) -> Server:
    """Return the server of the module, which fails no more and forgot what it was asked."""
    of_module.fault = lambda *_: None
    of_module.requests.clear()
    return of_module


@pytest.fixture
def folder() -> str:
    """Return the URI of a folder that no other test has."""
    return f"{BUCKET}/{uuid4().hex[:8]}"


@pytest.fixture
def memory() -> RuntimeSpec:
    return RuntimeSpec(workspace=f"memory://{uuid4().hex}")


def put(folder: str, **contents: bytes) -> None:
    filesystem, path = open_filesystem(folder)
    for name, content in contents.items():
        filesystem.pipe_file(f"{path}/{name.replace('__', '/')}.png", content)


def names(uri: str) -> list[str]:
    source = list_source(uri)
    return [name.removeprefix(source.root + "/") for name in source.listing["uri"].to_pylist()]


def read(*uris: str, max_bytes: int | None = None) -> list[bytes | OSError]:
    answers = dict(read_images(uris, max_bytes=max_bytes))
    return [answers[index] for index in range(len(uris))]


def test_a_listing_asks_for_a_page_when_the_one_before_is_used_up(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its memory does not grow with the number of objects."""
    put(folder, **{f"a__{number}": b"x" for number in range(7)})
    filesystem, path = open_filesystem(folder)
    monkeypatch.setattr(of_buckets, "PAGE", 2)
    server.requests.clear()
    objects = objects_in(filesystem, path)
    taken = [name for name, _ in islice(objects, 1)]
    assert len(server.requests) == 1
    filesystem.rm_file(f"{path}/a/5.png")
    taken += [name for name, _ in objects]
    expected = [f"{path}/a/{number}.png" for number in (0, 1, 2, 3, 4, 6)]
    assert taken == expected, "what goes meanwhile moves no other out of its page"


def test_an_image_is_read_in_one_request_and_not_again_until_it_changes(
    server: Server, folder: str, memory: RuntimeSpec
) -> None:
    put(folder, a=encoded_image(1), b=encoded_image(2))
    server.requests.clear()
    first = images_of(folder, memory)
    asked = [method for method, path, _ in server.requests if path.endswith(".png")]
    assert (asked, first.num_pool) == (["GET", "GET"], 2)
    put(folder, b=encoded_image(3), c=encoded_image(4))
    server.requests.clear()
    assert images_of(folder, memory).num_pool == 3
    asked = [path[-5:] for method, path, _ in server.requests if path.endswith(".png")]
    assert sorted(asked) == ["b.png", "c.png"]


def test_what_goes_or_changes_after_the_listing_is_told_and_read_by_the_next_run(
    server: Server, folder: str, memory: RuntimeSpec
) -> None:
    put(folder, a=encoded_image(1), b=encoded_image(2), c=encoded_image(3))
    filesystem, path = open_filesystem(folder)
    changes = iter([lambda: filesystem.rm_file(f"{path}/a.png")])

    def change(method: str, where: str, _: str) -> None:
        if method == "GET" and where.endswith(".png"):
            next(changes, lambda: None)()

    server.fault = change
    ref = images_of(folder, memory, max_quarantined=1)
    server.fault = lambda *_: None
    gone = [row["uri"].removeprefix(folder) for row in bad_rows_of(ref)]
    assert ref.num_pool + len(gone) == 3
    assert gone in ([], ["/a.png"]), "it may have been read before it went"
    put(folder, a=encoded_image(9))
    assert images_of(folder, memory).num_pool == 3


@pytest.mark.parametrize("fault", [500, 503, 429, "reset", "cut", "slow"])
def test_a_failure_that_passes_loses_nothing(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(sources, "PAUSE", 0)
    monkeypatch.setattr(drivers, "READ_SECONDS", 0.5 if fault == "slow" else 15)
    put(folder, **{f"{number}": bytes([number]) * 3000 for number in range(4)})
    asked = Counter[str]()

    def fail_once(method: str, path: str, query: str) -> Fault | None:
        asked[path + query] += 1
        first = asked[path + query] == 1 and method == "GET"
        return fault if first and (fault != "slow" or path.endswith("2.png")) else None

    server.fault = fail_once
    listed = list_source(folder).listing["uri"].to_pylist()
    assert read(*listed, max_bytes=3000) == [bytes([number]) * 3000 for number in range(4)]


def test_an_object_that_stays_unreadable_costs_a_bounded_number_of_requests(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAUSE", 0)
    put(folder, a=b"1", b=b"2")
    server.requests.clear()
    server.fault = lambda _, path, __: 500 if path.endswith("a.png") else None
    bad, good = read(f"{folder}/a.png", f"{folder}/b.png", max_bytes=9)
    assert isinstance(bad, OSError)
    assert good == b"2"
    assert 3 <= len(server.requests) - 1 <= 9


def test_a_server_that_keeps_silent_is_waited_for_within_a_bound(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About some images they are set aside; about one after the other all ends with a sentence."""
    put(folder, **{f"{number:02}": b"x" for number in range(40)})
    uris = list_source(folder).listing["uri"].to_pylist()
    monkeypatch.setattr(drivers, "READ_SECONDS", 0.1)
    monkeypatch.setattr(drivers, "S3_ATTEMPTS", 2)
    monkeypatch.setattr(sources, "PATIENCE", 0)
    server.requests.clear()
    server.fault = lambda _, path, __: "silent" if path.endswith("03.png") else None
    answers = read(*uris)
    assert [number for number, x in enumerate(answers) if isinstance(x, OSError)] == [3]
    at_most = drivers.S3_ATTEMPTS * drivers.S3_ROUNDS**2  # s3fs counts its rounds twice
    assert len([path for _, path, _ in server.requests if path.endswith("03.png")]) <= at_most
    monkeypatch.setattr(drivers, "S3_ATTEMPTS", 1)
    server.fault = lambda *_: "silent"
    with pytest.raises(SourceUnreadable, match="no answer for this and the 15 images before"):
        read(*uris)
    server.requests.clear()
    with pytest.raises(SourceUnreadable, match=r"cannot be listed \(.*Timeout"):
        list_source(folder)
    assert len(server.requests) <= drivers.S3_ROUNDS, "it is not asked for other things in vain"


def test_the_largest_and_the_empty_object(server: Server, folder: str) -> None:
    put(folder, a=b"", b=b"12", c=b"123")
    empty, fits, large = read(*(f"{folder}/{name}.png" for name in "abc"), max_bytes=2)
    assert (empty, fits) == (b"", b"12")
    assert isinstance(large, FileTooLarge)
    assert read(f"{folder}/c.png", f"{folder}/a.png") == [b"123", b""]


def test_of_a_bucket_with_versions_the_last_ones_count(folder: str, server: Server) -> None:
    filesystem, _ = open_filesystem(folder)
    status = {"Status": "Enabled"}
    filesystem.mkdir("versions")
    filesystem.call_s3("put_bucket_versioning", Bucket="versions", VersioningConfiguration=status)
    put("s3://versions/x", a=b"old", b=b"gone", c=b"same")
    put("s3://versions/x", a=b"new")
    filesystem.rm_file("versions/x/b.png")
    listed = list_source("s3://versions/x").listing["uri"].to_pylist()
    assert read(*listed) == [b"new", b"same"]
    assert isinstance(read("s3://versions/x/b.png")[0], FileNotFoundError)


def test_credentials_come_from_the_chain_and_are_nowhere_told(
    server: Server,
    folder: str,
    memory: RuntimeSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    canary = uuid4().hex
    file = tmp_path / "credentials"
    lines = ["[shop]", f"aws_access_key_id={canary}", f"aws_secret_access_key={canary}secret"]
    file.write_text("\n".join([*lines, f"aws_session_token={canary}token"]))
    put(folder, a=encoded_image(1), b=encoded_image(2))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    filesystem, _ = open_filesystem(folder)
    filesystem.clear_instance_cache()
    server.fault = lambda _, path, __: 403 if path.endswith("a.png") else None
    with caplog.at_level(logging.INFO):
        ref = images_of(folder, memory, max_quarantined=0.9)
        server.fault = lambda *_: 403
        with pytest.raises(SourceUnreadable, match="credentials") as caught:
            list_source(folder)
    filesystem.clear_instance_cache()
    assert ref.num_pool == 1
    told = [str(caught.value), caplog.text, *map(str, bad_rows_of(ref))]
    filesystem, path = open_filesystem(memory.workspace)
    for name in filesystem.find(path):
        content = filesystem.cat_file(name)
        is_table = name.endswith(".parquet")
        told.append(str(pq.read_table(io.BytesIO(content)).to_pylist() if is_table else content))
    assert len(told) > 5
    assert canary not in " ".join(told)


def test_a_bucket_is_searched_and_read_as_a_folder_is(
    server: Server, folder: str, tmp_path: Path
) -> None:
    wanted = ["a.jpg", "b/c/d.png", "b/e f+g%20.webp", "z/1.pgm"]
    for name in (*wanted, "b/.x/y.png", "read.me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    filesystem, path = open_filesystem(folder)
    filesystem.put(f"{tmp_path}/", f"{path}/pets/", recursive=True)
    filesystem.touch(f"{path}/pets/b/")  # a placeholder, as consoles make them
    source = list_source(f"{folder}/pets")
    assert names(f"{folder}/pets") == sorted(wanted)
    assert names(f"{folder}/pets/b/*") == ["c/d.png", "e f+g%20.webp"]
    assert read(*source.listing["uri"].to_pylist()) == [name.encode() for name in sorted(wanted)]
    before = source.listing["version"].to_pylist()
    filesystem.pipe_file(f"{path}/pets/a.jpg", b"other")
    after = list_source(f"{folder}/pets").listing["version"].to_pylist()
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    with pytest.raises(SourceUnreadable, match=f"{folder}/nothing: cannot be listed"):
        list_source(f"{folder}/nothing")
    (absent,) = read(f"{folder}/pets/gone.jpg")
    assert isinstance(absent, FileNotFoundError)


def test_names_of_objects_mean_nothing_but_themselves(server: Server, folder: str) -> None:
    odd = ["a*b/1.png", "aXb/2.png", "[x]/3.png", "w?.png", "c::d/4.png", "5%20 #?.png", "5//6.png"]
    odd += ["//7.png", "8.png", "8.png/9.png", "{a,b}/~ '\"`$HOME&=+@!;.png", "é🐱/x.parquet#3.png"]
    filesystem, path = open_filesystem(folder)
    for name in ["", *odd]:  # the first is a placeholder
        filesystem.pipe_file(f"{path}/p/{name}", name.encode())
    listed = list_source(f"{folder}/p")
    uris = listed.listing["uri"].to_pylist()
    assert uris == sorted(f"{folder}/p/{name}" for name in odd)
    assert read(*uris) == [uri.removeprefix(f"{folder}/p/").encode() for uri in uris]
    assert names(f"{folder}/p/a*b") == ["1.png"]
    assert names(f"{folder}/p/w?.png") == ["w?.png"]
    assert names(f"{folder}/p/5") == ["/6.png"]
    assert names(f"{folder}/p/c::d") == ["4.png"]
    assert names(f"{folder}/p/8.png") == ["8.png"]
    assert names(f"{folder}/p/8.png/") == ["9.png"], "a slash says that the folder is meant"
    with pytest.raises(SourceUnreadable, match="got a version of one"):
        list_source(f"{folder}/p/8.png?versionId=3")
