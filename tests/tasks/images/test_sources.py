"""What is listed, and that exactly the bytes that were asked for come back."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from tasks.images import sources
from tasks.images.listing import NoImages, SourceUnreadable
from tasks.images.objects import FileTooLarge
from tasks.images.parquet import read_columns
from tasks.images.quarantine import UNREADABLE, explain
from tasks.images.sources import list_source, read_images
from tasks.specs import InputError


def write_tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def write_rows(path: Path, count: int, **options: Any) -> Path:
    images = pa.array([f"{path.name} {row}".encode() for row in range(count)], pa.binary())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"other": ["x"] * count, "image": images}), path, **options)
    return path


def names(uri: str | Path) -> list[str]:
    source = list_source(str(uri))
    return [name.removeprefix(source.root + "/") for name in source.listing["uri"].to_pylist()]


def read(*uris: str | Path, **options: Any) -> list[bytes | OSError]:
    answers = dict(read_images([str(uri) for uri in uris], **options))
    assert sorted(answers) == list(range(len(uris)))
    return [answers[index] for index in range(len(uris))]


# --- listing --------------------------------------------------------------------------------


def test_a_folder_is_searched_by_extension(tmp_path: Path) -> None:
    wanted = ["A.JPG", "b/c/d.jpeg", "b/ü 'q\" #1.png", "text.webp", "z.TIFF", "z/a.pgm"]
    write_tree(tmp_path, *wanted, ".hidden.png", ".git/x.png", "b/.x/y.png", "read.me", "l.parquet")
    assert names(tmp_path) == sorted(wanted)
    assert names(f"{tmp_path}/") == sorted(wanted)
    assert list_source(str(tmp_path)).num_images == len(wanted)


def test_what_is_not_read_is_counted_by_extension(tmp_path: Path) -> None:
    files = ["a.jfif", "b.JXL", "c/d.jxl", "c/e.TXT", "c/f", "g.20240131", "t.parquet", ".h.jxl"]
    write_tree(tmp_path, *files)
    source = list_source(str(tmp_path))
    assert names(tmp_path) == ["a.jfif"]
    assert source.skipped == {".jxl": 2, ".txt": 1, "": 2, ".parquet": 1}


def test_files_beside_parquet_are_counted_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", 3)
    write_tree(tmp_path, "notes.md", "b.jxl")
    source = list_source(str(tmp_path))
    assert (source.num_images, source.skipped) == (3, {".md": 1, ".jxl": 1})
    assert list_source(str(tmp_path / "a.parquet")).skipped == {}


def test_a_folder_without_images_says_what_would_read_its_files(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.jxl", "b.jxl", "c.txt")
    with pytest.raises(NoImages, match=r"2 \.jxl \(convert with pillow-jxl-plugin\), 1 \.txt;"):
        list_source(str(tmp_path))


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write_tree(tmp_path / "outside", "secret.png", "more/x.png")
    root = write_tree(tmp_path / "root", "a.png")
    (root / "in.png").symlink_to(root / "a.png")
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "nowhere.png").symlink_to(root / "absent.png")
    assert names(root) == ["a.png", "in.png"]
    assert list_source(str(root)).num_skipped == 2


def test_a_folder_that_is_a_link_is_listed(tmp_path: Path) -> None:
    write_tree(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["a.png"]


def test_a_pipe_is_neither_listed_nor_read(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert names(tmp_path) == ["a.png"]
    assert isinstance(read(tmp_path / "pipe.png")[0], OSError)


def test_a_folder_with_the_name_of_a_pattern_is_a_folder(tmp_path: Path) -> None:
    write_tree(tmp_path / "a'b*", "x.png")
    write_tree(tmp_path / "a'bc", "y.png")
    assert names(tmp_path / "a'b*") == ["x.png"]


def test_a_pattern_matches_files_and_folders(tmp_path: Path) -> None:
    write_tree(tmp_path, "a/1.png", "a/1.txt", "b/2.png", "b/c/3.jpg", "d/.4.png")
    assert names(tmp_path / "*" / "*.png") == ["a/1.png", "b/2.png"]
    assert names(tmp_path / "[b]") == ["b/2.png", "b/c/3.jpg"]
    assert names(tmp_path / "**" / "*") == ["a/1.png", "b/2.png", "b/c/3.jpg"]


def test_one_file_is_a_source(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.png", "b.png")
    assert names(tmp_path / "a.png") == ["a.png"]


def test_the_listing_tells_content_that_changed(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.png")
    before = list_source(str(tmp_path)).listing
    os.utime(tmp_path / "a.png", ns=(1, 1))
    after = list_source(str(tmp_path)).listing
    assert before["version"] != after["version"]
    assert before["size"].to_pylist() == [5]


def test_a_bucket_is_listed_and_read_by_the_same_code() -> None:
    bucket = f"memory://{uuid4().hex}/data"
    for name in ("x/1.PNG", "x/y/2.jpg", ".h/3.png", "x/.4.png", "x/5.txt"):
        with fsspec.open(f"{bucket}/{name}", "wb") as file:
            file.write(name.encode())
    assert names(bucket) == ["x/1.PNG", "x/y/2.jpg"]
    assert names(f"{bucket}/") == ["x/1.PNG", "x/y/2.jpg"]
    assert names(f"{bucket}/*/*.PNG") == ["x/1.PNG"]
    assert names(f"{bucket}/x/1.PNG") == ["1.PNG"]
    listed = list_source(bucket).listing["uri"].to_pylist()
    assert read(*listed) == [b"x/1.PNG", b"x/y/2.jpg"]


def test_parquet_in_a_bucket() -> None:
    bucket = f"memory://{uuid4().hex}"
    with fsspec.open(f"{bucket}/t/a.parquet", "wb") as file:
        pq.write_table(pa.table({"image": [b"0", b"1"]}), file)
    assert list_source(bucket).num_images == 2
    assert read(f"{bucket}/t/a.parquet#1") == [b"1"]


def test_a_folder_of_parquet_is_one_source(tmp_path: Path) -> None:
    write_rows(tmp_path / "b.parquet", 4)
    write_rows(tmp_path / "sub" / "a.pq", 2)
    write_rows(tmp_path / "none.parquet", 0)
    source = list_source(str(tmp_path))
    assert source.kind == "tables"
    assert source.listing["rows"].to_pylist() == [4, 2]
    assert source.num_images == 6


def test_images_beside_a_parquet_of_labels_win(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.png")
    pq.write_table(pa.table({"uri": ["a.png"], "label": ["x"]}), tmp_path / "labels.parquet")
    assert list_source(str(tmp_path)).kind == "images"


# --- reading --------------------------------------------------------------------------------


def test_rows_and_files_come_back_under_their_index(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "t.parquet", 200, row_group_size=70)
    other = write_rows(tmp_path / "u.parquet", 3)
    write_tree(tmp_path, "a.png")
    uris = [f"{table}#199", tmp_path / "a.png", f"{table}#0", f"{other}#2", f"{table}#69"]
    uris += [f"{table}#70", f"{table}#0", f"{table}#135"]
    expected = ["t.parquet 199", "a.png", "t.parquet 0", "u.parquet 2", "t.parquet 69"]
    expected += ["t.parquet 70", "t.parquet 0", "t.parquet 135"]
    assert read(*uris) == [text.encode() for text in expected]


def test_many_files_come_back_complete(tmp_path: Path) -> None:
    all_names = [f"{i:03}.png" for i in range(150)]
    write_tree(tmp_path, *all_names)
    assert read(*(tmp_path / name for name in all_names)) == [n.encode() for n in all_names]
    assert read() == []


def test_structs_as_hugging_face_writes_them(tmp_path: Path) -> None:
    rows = [{"bytes": b"one", "path": "1.png"}, {"bytes": None, "path": "2.png"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "t.parquet")
    first, *others = read(*(f"{tmp_path}/t.parquet#{row}" for row in range(3)))
    assert first == b"one"
    assert all(isinstance(other, OSError) for other in others)


def test_only_needed_row_groups_are_read(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", 90, row_group_size=30, compression="zstd")
    group = pq.ParquetFile(path).metadata.row_group(1)
    start = min(group.column(i).data_page_offset for i in range(group.num_columns))
    data = bytearray(path.read_bytes())
    data[start : start + group.total_byte_size // 2] = b"\xff" * (group.total_byte_size // 2)
    path.write_bytes(data)
    assert read(f"{path}#5", f"{path}#89") == [b"t.parquet 5", b"t.parquet 89"]


def test_a_damaged_row_group_spoils_its_own_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAUSE", 0)
    path = write_rows(tmp_path / "t.parquet", 60, row_group_size=30)
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    good, bad = read(f"{path}#45", f"{path}#5")
    assert good == b"t.parquet 45"
    assert isinstance(bad, OSError)


def test_rows_that_are_not_there_are_an_answer(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", 2)
    good, beyond, absent = read(f"{path}#1", f"{path}#2", f"{tmp_path}/no.parquet#0")
    assert good == b"t.parquet 1"
    assert isinstance(beyond, OSError)
    assert isinstance(absent, FileNotFoundError)


def test_files_that_cannot_be_read_are_an_answer(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    uris = [tmp_path / "no.png", tmp_path / "folder.png", "memory://no/such.png"]
    for answer in read(*uris):
        assert isinstance(answer, OSError)
        assert explain(answer)[0] == UNREADABLE


def test_too_large_is_not_read(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.png", "long name.png")
    table = write_rows(tmp_path / "t.parquet", 11)
    with fsspec.open(f"memory://{tmp_path.name}/x.png", "wb") as file:
        file.write(b"12345678901234")
    uris = [tmp_path / "a.png", tmp_path / "long name.png", f"{table}#1", f"{table}#10"]
    answers = read(*uris, f"memory://{tmp_path.name}/x.png", max_bytes=11)
    kinds = [type(answer) for answer in answers]
    assert kinds == [bytes, FileTooLarge, bytes, FileTooLarge, FileTooLarge]


class Flaky(MemoryFileSystem):
    """A bucket whose every object fails as often as its name says."""

    protocol = "flaky"
    cachable = False
    asked: ClassVar[Counter[str]] = Counter()

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        self.asked[path] += 1
        if self.asked[path] <= int(path.rsplit("-", 1)[-1].removesuffix(".png")):
            raise TimeoutError("slow down")
        return path.encode()


def test_a_failure_that_passes_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(sources, "PAUSE", 0)
    monkeypatch.setattr(Flaky, "asked", Counter())
    passes, stays = read("flaky://b/x-2.png", "flaky://b/y-9.png")
    assert isinstance(passes, bytes)
    assert isinstance(stays, OSError)
    assert explain(stays) == (UNREADABLE, "TimeoutError: slow down")
    assert sorted(Flaky.asked.values()) == [3, 3]


@pytest.mark.parametrize("group", [3, 7, 100])
def test_columns_of_a_range_of_rows(tmp_path: Path, group: int) -> None:
    path = str(write_rows(tmp_path / "t.parquet", 20, row_group_size=group))
    whole = read_columns(path, ["image"])["image"].to_pylist()
    assert len(whole) == 20
    for first, rows in ((0, 20), (5, 3), (6, 8), (19, 1), (0, 1)):
        part = read_columns(path, ["image"], first=first, rows=rows)
        assert part["image"].to_pylist() == whole[first : first + rows]


# --- errors for people ----------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    write_tree(tmp_path, "a.txt")
    for uri in (tmp_path, tmp_path / "no", tmp_path / "no*", tmp_path / "a.txt"):
        with pytest.raises(NoImages, match="expected"):
            list_source(str(uri))
    with pytest.raises(NoImages, match="empty text"):
        list_source(" ")


def test_a_bucket_that_is_not_there() -> None:
    with pytest.raises(SourceUnreadable, match="permission"):
        list_source(f"memory://{uuid4().hex}/none")


def test_a_bucket_without_permission() -> None:
    class Denied(MemoryFileSystem):
        protocol = "denied"
        cachable = False

        def find(self, path: str, *_: Any, **__: Any) -> Any:
            raise PermissionError(f"Access Denied for denied://KEY:SECRET@{path}")

    fsspec.register_implementation("denied", Denied, clobber=True)
    with pytest.raises(SourceUnreadable, match="credentials") as caught:
        list_source("denied://bucket/x")
    assert "SECRET" not in str(caught.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"class": "no_such_driver.FS", "err": "Install no_such_driver"}
    monkeypatch.setitem(known_implementations, "gcs", absent)
    monkeypatch.setitem(known_implementations, "gs", absent)
    with pytest.raises(SourceUnreadable, match="install gcsfs"):
        list_source("gs://bucket/x")


@pytest.mark.parametrize("uri", ["nosuch://x/y", "zip://*.png::memory://a.zip"])
def test_unknown_protocols(uri: str) -> None:
    with pytest.raises(InputError):
        list_source(uri)


def test_passwords_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(SourceUnreadable, match="environment") as caught:
        list_source("s3://KEY:SECRET@bucket/x")
    assert "SECRET" not in str(caught.value)


def test_a_parquet_without_images(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"img": [b"x"], "label": ["a"]}), path)
    with pytest.raises(SourceUnreadable, match="got img, label"):
        list_source(str(path))
    pq.write_table(pa.table({"image": [1]}), path)
    with pytest.raises(SourceUnreadable, match="expected bytes"):
        list_source(str(path))
    path.write_bytes(b"not a table")
    with pytest.raises(SourceUnreadable, match="expected a Parquet file"):
        list_source(str(path))
