"""Parts of images: copies behind their first, however the rows come, cut between two images."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.pool.catalog import IMAGES
from tasks.pool.written import Content, cut, mark_duplicates

COLUMNS = pa.schema([field for field in IMAGES if field.name != "duplicate_of"])


def pieces(counts: list[int], size: int) -> list[pa.Table]:
    """Return so many copies of each of some images, in tables of some rows."""
    rows = [
        {"image_id": f"{number:064x}", "uri": f"{number}/{copy}", "split": "pool"}
        for number, count in enumerate(counts)
        for copy in range(count)
    ]
    table = pa.Table.from_pylist(rows, COLUMNS)
    return [table.slice(start, size) for start in range(0, len(rows), size)]


@given(
    counts=st.lists(st.integers(1, 4), max_size=12),
    size=st.integers(1, 9),
    distinct=st.integers(1, 5),
)
def test_each_part_has_so_many_distinct_images_with_all_their_copies(
    counts: list[int], size: int, distinct: int
) -> None:
    parts = list(cut(mark_duplicates(pieces(counts, size)), distinct))
    ids = [sorted(set(part["image_id"].to_pylist())) for part in parts]
    assert [len(own) for own in ids[:-1]] == [distinct] * (len(ids) - 1)
    every = [f"{number:064x}" for number in range(len(counts))]
    assert [image for part in ids for image in part] == every
    for row in [row for part in parts for row in part.to_pylist()]:
        first = row["uri"].split("/")[0] + "/0"
        assert row["duplicate_of"] == (None if row["uri"] == first else first)


def test_the_digest_is_of_ids_and_splits_and_not_of_copies() -> None:
    digests = set()
    for counts, size in (([1, 1, 1], 3), ([2, 1, 3], 1)):
        content = Content()
        for table in mark_duplicates(pieces(counts, size)):
            content.add(table)
        digests.add(content.digest)
        assert (content.num_rows, content.splits["pool"]) == (sum(counts), 3)
    assert len(digests) == 1
