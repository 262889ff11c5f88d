"""Files whose names mean something elsewhere, and links that lead in a circle."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.images.listing import NoImages, SourceUnreadable
from tasks.images.sources import list_source, read_images
from tasks.pool.entries import iter_entries
from tasks.storage.uris import escaped
from tests.worlds.names import NAMES, write_named


def contents(uri: str) -> list[bytes]:
    """Return what is read of the images of a source, sorted."""
    entries = pa.concat_tables(iter_entries([list_source(uri)]))
    read = dict(read_images(entries["uri"].to_pylist()))
    assert not [data for data in read.values() if isinstance(data, OSError)]
    return sorted(read.values())  # type: ignore[type-var]


def write_rows(path: Path, columns: dict[str, list[object]]) -> None:
    with path.open("wb") as file:  # Arrow takes no path that is not UTF-8
        pq.write_table(pa.table(columns), file)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with one of each name, and in each an image of that name that holds it."""
    for name in NAMES:
        write_named(tmp_path, name, name)
    return tmp_path


def test_a_name_of_any_characters_is_listed_and_read(tree: Path) -> None:
    assert contents(str(tree)) == sorted(NAMES)
    assert contents(f"{tree}/**/*.png") == sorted(NAMES)
    assert contents(tree.as_uri()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_folder_of_any_name_is_a_source_and_begins_a_pattern(tree: Path, name: bytes) -> None:
    folder = os.fsdecode(os.fsencode(tree) + b"/" + name)
    for uri in (folder, f"{folder}/*.png", f"{folder}/*", f"{folder}/{os.fsdecode(name)}.png"):
        assert contents(uri) == [name], uri
    assert list_source(f"{folder}/*.png").root == list_source(folder).root


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_table_of_any_name_holds_images_or_names_them(tmp_path: Path, name: bytes) -> None:
    write_named(tmp_path, name, b"named")
    table = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name[:240] + b".parquet"))
    write_rows(table, {"image": [b"one", b"two"]})
    assert contents(str(table)) == [b"one", b"two"]
    inside = escaped(os.fsdecode(name + b"/" + name + b".png"))
    write_rows(table, {"uri": [inside, f"{escaped(tmp_path)}/{inside}"]})
    entries = pa.concat_tables(iter_entries([list_source(str(table))]))
    read = dict(read_images(entries["uri"].to_pylist()))
    assert list(read.values()) == [b"named", b"named"]


def test_a_folder_with_the_name_of_a_pattern_is_meant_where_there_is_one(tmp_path: Path) -> None:
    for name in (b"**", b"b"):
        write_named(tmp_path, name, name)
    assert contents(f"{tmp_path}/**/*.png") == [b"**"]
    assert contents(f"{tmp_path}/*/*.png") == [b"**", b"b"]


def test_links_in_a_circle_are_no_files(tmp_path: Path) -> None:
    write_named(tmp_path, b"a", b"1")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "one.png").symlink_to("two.png")
    (tmp_path / "two.png").symlink_to("one.png")
    for name in ("up", "down"):  # each doubles what a pattern would go through
        (tmp_path / "a" / name).symlink_to(tmp_path)
    assert contents(str(tmp_path)) == [b"1"]
    assert contents(f"{tmp_path}/**/*.png") == [b"1"]
    with pytest.raises(NoImages, match="no such path"):
        list_source(f"{tmp_path}/self.png")


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 30), "x" * 300 + ".png"])
def test_a_name_that_no_disk_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceUnreadable, match="File name too long") as caught:
        list_source(f"{tmp_path}/{name}")
    assert len(str(caught.value)) < 300


def test_hidden_files_are_seen_only_when_they_are_asked_for(tmp_path: Path) -> None:
    for name in (b"a", b".b"):
        write_named(tmp_path, name, name)
    assert contents(f"{tmp_path}/*/*.png") == [b"a"]
    assert contents(f"{tmp_path}/.b/.*.png") == [b".b"]


@pytest.mark.parametrize("pattern", ["a**b/*.png", "***/x.png"])
def test_a_pattern_without_a_meaning_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises((SourceUnreadable, NoImages)):
        list_source(f"{tmp_path}/{pattern}")
