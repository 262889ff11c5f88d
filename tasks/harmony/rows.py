"""Rows of one modality in Parquet files, read in pieces; rows of others are not looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.annotations.spelling import Names
from tasks.harmony.files import EMBEDDING, LABEL, MODALITY, SAMPLE, SPLIT, BadFeatures
from tasks.images.parquet import HELD_OUT
from tasks.on_demand import OnDemand
from tasks.storage.columns import class_numbers
from tasks.storage.files import open_read
from tasks.storage.uris import redact

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # a check of columns does not wait for PyTorch
    torch = OnDemand("torch")

Part = Literal["train", "test"]
TRAIN = frozenset(("train", "training", "pool", ""))
BATCH = 4096  # rows in memory; 16 MB of 1,024 numbers


@dataclass(frozen=True)
class Rows:
    """Rows of one modality.

    Attributes:
        files: Where they are.
        modality: Whose rows are read; of a file without such a column all are.
        part: `train`, `test`, or None for all that there are.
    """

    files: tuple[str, ...]
    modality: str
    part: Part | None = None

    def pieces(self) -> Iterator[pa.Table]:
        """Yield (sample_id, embedding, label) of some rows at a time.

        Features of row groups without a row of this modality and part are not read.
        """
        for uri in self.files:
            with open_read(uri) as file, pq.ParquetFile(file) as parquet:
                for group in range(parquet.metadata.num_row_groups):
                    yield from self._of_group(uri, parquet, group)

    def _of_group(self, uri: str, parquet: pq.ParquetFile, group: int) -> Iterator[pa.Table]:
        names = parquet.schema_arrow.names
        told = [name for name in (MODALITY, SPLIT) if name in names]
        if told and not pc.any(self._wanted(parquet.read_row_group(group, columns=told))).as_py():
            return
        columns = [name for name in (SAMPLE, MODALITY, SPLIT, LABEL, EMBEDDING) if name in names]
        for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=columns):
            table = pa.Table.from_batches([batch])
            rows = table.filter(self._wanted(table))
            if rows.num_rows:
                self._check(uri, rows)
                yield rows

    def _wanted(self, table: pa.Table) -> pa.ChunkedArray:
        wanted = pa.chunked_array([np.ones(table.num_rows, bool)])
        if MODALITY in table.column_names:
            of_modality = pc.equal(table[MODALITY].cast(pa.string()), self.modality)
            wanted = pc.and_(wanted, pc.fill_null(of_modality, fill_value=False))
        if self.part is not None:
            wanted = pc.and_(wanted, pc.equal(parts_of(table), self.part))
        return wanted

    def _check(self, uri: str, rows: pa.Table) -> None:
        """Make sure that no row of another modality came through."""
        if MODALITY in rows.column_names:
            seen = set(pc.unique(rows[MODALITY].cast(pa.string())).to_pylist())
            assert seen == {self.modality}, f"{redact(uri)}: rows of {seen}"  # noqa: S101


@dataclass(frozen=True)
class LabelledRows:
    """Features and class numbers of rows, as a stage reads them; rows without a class are not."""

    rows: Rows
    classes: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple["Tensor", "Tensor"]]:
        """Yield features (batch, width) and class numbers (batch), some at a time."""
        names = Names(self.classes)
        for table in self.rows.pieces():
            if LABEL not in table.column_names:
                return
            meant = names.find_all(table[LABEL].cast(pa.string()))
            numbers = class_numbers(self.classes, meant)
            known = numbers >= 0
            if known.any():
                yield features_of(table)[known], numbers[known]


def parts_of(table: pa.Table) -> pa.ChunkedArray:
    """Return of each row whether it is to learn from (`train`), for `test`, or neither (`other`).

    Words other than those of training and of testing are neither.
    """
    if SPLIT not in table.column_names:
        return pa.chunked_array([pa.array(["train"] * table.num_rows, pa.string())])
    words = pc.fill_null(table[SPLIT].cast(pa.string()), "")
    words = pc.utf8_lower(pc.utf8_trim_whitespace(words))
    is_test = pc.is_in(words, pa.array(sorted(HELD_OUT)))
    is_train = pc.is_in(words, pa.array(sorted(TRAIN)))
    return pc.if_else(is_test, "test", pc.if_else(is_train, "train", "other"))


def features_of(table: pa.Table) -> "Tensor":
    """Return the features of rows, fp32 of shape (rows, width).

    Raises:
        BadFeatures: a row has none, another width, or numbers that are none.
    """
    column = table[EMBEDDING].combine_chunks()
    lengths = pc.list_value_length(column)
    if lengths.null_count or pc.min_max(lengths)["min"].as_py() == 0:
        empty = pc.index(pc.fill_null(lengths, 0), 0).as_py()
        raise BadFeatures(f"{_sample(table, empty)} has no features; add them, or remove the row")
    width = lengths[0].as_py()
    other = np.flatnonzero(lengths.to_numpy() != width)
    if len(other):
        msg = f"{_sample(table, int(other[0]))} has {lengths[int(other[0])]} features"
        raise BadFeatures(f"{msg}, others {width}; a modality has one encoder and one width")
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    values = flat.reshape(-1, width)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        msg = f"{_sample(table, int(wrong[0]))} has features that are no finite numbers"
        raise BadFeatures(f"{msg}; compute them again, or remove the row")
    return torch.from_numpy(values)


def _sample(table: pa.Table, row: int) -> str:
    if SAMPLE in table.column_names:
        return f"sample {table[SAMPLE][row].as_py()!r}"
    return f"row {row + 1} of its modality"
