"""Buckets of Google and of Azure, on servers of their protocols: listed and read as S3's are."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from uuid import uuid4

import pytest

from tasks.images import objects
from tasks.images.listing import SourceUnreadable
from tasks.images.objects import FileTooLarge
from tasks.images.sources import list_source, read_images
from tasks.specs import RuntimeSpec
from tasks.storage.uris import open_filesystem
from tests.worlds.emulators import absent, bucket_of
from tests.worlds.images import encoded_image
from tests.worlds.pools import images_of

SCHEMES = tuple(
    pytest.param(scheme, marks=pytest.mark.skipif(bool(absent(scheme)), reason=absent(scheme)))
    for scheme in ("gs", "az")
)
ODD = ("a*b/1.png", "aXb/2.png", "[x]/3.png", "w?.png", "c::d/4.png", "5%20 #?.png", "5//6.png")
ODD += ("8.png", "8.png/9.png", "{a,b}/~ '\"`$HOME&=+@!.png", "é🐱/x.parquet#3.png")


@pytest.fixture(scope="module", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start those that there are; workers, too, find them by the environment."""
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for scheme in filter(lambda scheme: not absent(scheme), ("gs", "az")):
            home = tmp_path_factory.mktemp(scheme)
            for name, value in stack.enter_context(bucket_of(scheme, home)).items():
                environment.setenv(name, value)
            filesystem, path = open_filesystem(f"{scheme}://photos")
            filesystem.mkdir(path)
        yield


@pytest.fixture(params=SCHEMES)
def folder(request: pytest.FixtureRequest) -> str:
    """Return the URI of a folder that no other test has."""
    return f"{request.param}://photos/{uuid4().hex[:8]}"


def put(folder: str, contents: Mapping[str, bytes]) -> None:
    filesystem, path = open_filesystem(folder)
    for name, content in contents.items():
        filesystem.pipe_file(f"{path}/{name}", content)


def read(*uris: str, max_bytes: int | None = None) -> list[bytes | OSError]:
    answers = dict(read_images(uris, max_bytes=max_bytes))
    return [answers[index] for index in range(len(uris))]


def test_names_of_objects_mean_nothing_but_themselves(folder: str) -> None:
    put(folder, {name: name.encode() for name in ODD})
    uris = list_source(folder).listing["uri"].to_pylist()
    assert uris == sorted(f"{folder}/{name}" for name in ODD)
    assert read(*uris) == [uri.removeprefix(f"{folder}/").encode() for uri in uris]
    assert list_source(f"{folder}/8.png").num_images == 1
    assert list_source(f"{folder}/*/*.png").num_images == 7


def test_a_listing_goes_on_behind_the_first_page(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, {f"{number}.png": b"x" for number in range(7)})
    monkeypatch.setattr(objects, "PAGE", 2)
    listing = list_source(folder).listing
    assert listing["uri"].to_pylist() == [f"{folder}/{number}.png" for number in range(7)]


def test_sizes_versions_and_what_is_not_there(folder: str) -> None:
    put(folder, {"a.png": b"", "b.png": b"12", "c.png": b"123"})
    listing = list_source(folder).listing
    assert listing["size"].to_pylist() == [0, 2, 3]
    uris = listing["uri"].to_pylist()
    empty, fits, large = read(*uris, max_bytes=2)
    assert (empty, fits) == (b"", b"12")
    assert isinstance(large, FileTooLarge)
    put(folder, {"c.png": b"321"})
    before, after = (one["version"].to_pylist() for one in (listing, list_source(folder).listing))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False]
    assert isinstance(read(f"{folder}/d.png")[0], FileNotFoundError)
    for uri in (f"{folder}/nothing", f"{folder.partition('://')[0]}://nobodys/x"):
        with pytest.raises(SourceUnreadable, match=f"{uri}: cannot be listed"):
            list_source(uri)


def test_a_workspace_in_the_bucket(folder: str) -> None:
    """Its files are written and read by the same code as those of a local one."""
    put(f"{folder}/images", {f"{number}.png": encoded_image(number) for number in range(3)})
    runtime = RuntimeSpec(workspace=f"{folder}/workspace")
    assert images_of(f"{folder}/images", runtime).num_pool == 3
    assert images_of(f"{folder}/images", runtime).num_pool == 3
