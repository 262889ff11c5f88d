"""What is listed, image by image: where it is, what tells that it changed, and its split."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.images.parquet import image_column, is_test, read_schema, resolve
from tasks.images.sources import Source
from tasks.pool.names import relative, relative_all
from tasks.pool.splits import first_words, split_of
from tasks.specs import PoolSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import open_read

SPLITS = ("pool", "test")  # of the first source, and of the second
ENTRIES = pa.schema(
    [
        ("origin", pa.string()),  # the file, or the row of a Parquet file
        ("size", pa.int64()),  # of that file
        ("version", pa.string()),  # of that file
        ("uri", pa.string()),
        ("name", pa.string()),
        ("split", pa.string()),
        ("bytes", pa.int64()),  # null where only reading tells
    ]
)
_AT_ONCE = 65536


def digest_of(sources: Sequence[Source], spec: PoolSpec, *, is_split: bool) -> str:
    """Digest what is listed, and the settings that decide what becomes of it."""
    limits = (spec.rows_per_shard, spec.max_bytes, spec.max_pixels)
    return fingerprint([source.digest for source in sources], *limits, is_split)


def iter_entries(sources: Sequence[Source], *, is_split: bool = False) -> Iterator[pa.Table]:
    """Yield the images of all sources (schema `ENTRIES`), a bounded number at a time.

    The first source is the pool, the second the test images.

    Args:
        sources: As listed.
        is_split: Whether the first folders of the pool say what is held out of it.
    """
    for source, split in zip(sources, SPLITS, strict=False):
        for batch in source.listing.to_batches(max_chunksize=_AT_ONCE):
            listing = pa.Table.from_batches([batch])
            names = relative_all(listing["uri"], source.root)
            splits = [split] * listing.num_rows
            if is_split and split == "pool":
                words = first_words(names, source).to_pylist()
                splits = [split_of(word or "") for word in words]
            if source.kind == "images":
                yield _of_files(listing, names, splits)
            else:
                for file, split_of_file in zip(listing.to_pylist(), splits, strict=True):
                    says = split == "pool"
                    yield from _of_table(file, source.root, split_of_file, has_splits=says)


def _of_files(listing: pa.Table, names: pa.ChunkedArray, splits: Sequence[str]) -> pa.Table:
    uris = listing["uri"]
    purposes = pa.array(splits, pa.string())
    columns = [uris, listing["size"], listing["version"], uris, names, purposes, listing["size"]]
    return pa.table(columns, schema=ENTRIES)


def _of_table(
    file: dict[str, str], root: str, split: str, *, has_splits: bool
) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file, which have its size and version.

    The column `split` counts where it may; rows of files without it are of the split of the file.
    """
    uri, schema = file["uri"], read_schema(file["uri"])
    by_uri = image_column(uri, schema) == "uri"
    wanted = [name for name in ("uri", "split") if name in schema.names]
    wanted = [name for name in wanted if by_uri or (name == "split" and has_splits)]
    first = 0
    for texts in _texts(uri, wanted, int(file["rows"])):
        count = len(texts[""])
        origins = [f"{uri}#{row}" for row in range(first, first + count)]
        names = [name or "" for name in texts["uri"]] if by_uri else None
        columns = {
            "origin": origins,
            "size": [file["size"]] * count,
            "version": [file["version"]] * count,
            "uri": origins if names is None else [resolve(name, uri) for name in names],
            "name": [relative(origin, root) for origin in origins] if names is None else names,
            "split": _splits(texts.get("split"), split, count),
            "bytes": [None] * count,
        }
        yield pa.table(columns, schema=ENTRIES)
        first += count


def _texts(
    uri: str, columns: Sequence[str], num_rows: int
) -> Iterator[dict[str, Sequence[str | None]]]:
    """Yield columns of a Parquet file as texts; under "" as many Nones as there are rows."""
    if not columns:
        for first in range(0, num_rows, _AT_ONCE):
            yield {"": [None] * min(_AT_ONCE, num_rows - first)}
        return
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_AT_ONCE, columns=list(columns)):
            texts = {name: batch[name].cast(pa.string()).to_pylist() for name in columns}
            yield {**texts, "": [None] * batch.num_rows}


def _splits(given: Sequence[str | None] | None, split: str, count: int) -> list[str]:
    """Return the split of each row; what is not called test may be trained on."""
    if given is None:
        return [split] * count
    tests = is_test(pa.array(given, pa.string())).to_pylist()
    return ["test" if is_for_testing else "pool" for is_for_testing in tests]
