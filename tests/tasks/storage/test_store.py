"""A store of rows by key: each once for its readers, and only the files that may have a key."""

import hashlib
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.storage import store as storage
from tasks.storage.ranges import ALL, Span, keys_in, overlaps, span_of, span_of_keys
from tasks.storage.store import Store, absent_keys, read_keys


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def rows(*numbers: int) -> pa.Table:
    return pa.table({"key": [key(n) for n in numbers], "number": list(numbers)})


def keys(*numbers: int) -> pa.Array:
    return pa.array(sorted(key(n) for n in numbers), pa.string())


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = str(tmp_path) if request.param == "disk" else f"memory://{uuid4().hex}"
    return Store(f"{place}/store", "key", {"kind": "test"})


def test_what_was_added_is_there_and_the_rest_is_absent(store: Store) -> None:
    assert store.uris() == []
    assert absent_keys(keys(1, 2), store.uris(), "key").equals(keys(1, 2))
    store.add(rows(3, 1))
    store.add(rows(2))
    assert store.add(rows().cast(rows(1).schema)) is None
    assert absent_keys(keys(1, 2, 3, 4), store.uris(), "key").equals(keys(4))
    found = read_keys(keys(1, 2, 4), store.uris(), "key", ["number"])
    assert found["key"].combine_chunks().equals(keys(1, 2))
    assert {row["key"]: row["number"] for row in found.to_pylist()} == {key(1): 1, key(2): 2}


def test_equal_rows_of_two_writers_count_once(store: Store) -> None:
    assert store.add(rows(1, 2, 3)) == store.add(rows(3, 2, 1)), "the same file"
    store.add(rows(3, 4))
    assert len(store.uris()) == 2
    found = read_keys(keys(1, 2, 3, 4), store.uris(), "key", ["number"])
    assert sorted(found["number"].to_pylist()) == [1, 2, 3, 4]


def test_a_reader_of_a_range_opens_what_may_have_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = sorted(range(40), key=key)
    for start in range(0, 40, 10):
        store.add(rows(*ordered[start : start + 10]))
    own = keys(*ordered[12:18])
    (meeting,) = overlaps(store.uris(), [span_of_keys(own)])
    opened: list[str] = []
    read = storage.read_table
    monkeypatch.setattr(
        storage, "read_table", lambda uri, names: opened.append(uri) or read(uri, names)
    )
    assert read_keys(own, meeting, "key", ["number"]).num_rows == 6
    assert opened == [store.uris()[1]]


@given(
    parts=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 30)), max_size=20),
    spans=st.lists(st.integers(0, 99), max_size=8),
)
def test_overlaps_are_those_that_every_pair_has(
    parts: list[tuple[int, int]], spans: list[int]
) -> None:
    uris = [
        Span(f"{a:02x}", f"{a + more:02x}").file_name(f"{n:08}")
        for n, (a, more) in enumerate(parts)
    ]
    edges = sorted(spans)
    ranges = [Span(f"{a:02x}", f"{b:02x}") for a, b in pairwise(edges)]
    expected = [{uri for uri in uris if span_of(uri).meets(own)} for own in ranges]
    found = overlaps(uris, ranges)
    assert [set(own) for own in found] == expected
    assert [len(own) for own in found] == [len(own) for own in expected]


@given(numbers=st.sets(st.integers(0, 99), max_size=20), first=st.integers(0, 99))
def test_keys_of_a_range_are_those_that_its_ends_allow(numbers: set[int], first: int) -> None:
    keys = sorted(f"{number:02x}ff" for number in numbers)
    span = Span(f"{first:02x}", f"{first + 20:02x}")
    assert keys_in(keys, span) == [key for key in keys if span.meets(Span(key[:2], key[:2]))]


def test_a_name_without_a_range_may_hold_any_key() -> None:
    assert span_of("part-00001-feedfeed.parquet") == ALL
    assert span_of("s3://b/a folder\n/part-00ff-01ab-feedfeed.parquet") == Span("00ff", "01ab")
