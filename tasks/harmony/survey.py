"""A look at all rows of a modality before anything is learned from them."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from tasks.harmony.files import LABEL, MODALITY, BadFeatures, find_files
from tasks.harmony.rows import Rows, features_of, parts_of
from tasks.specs import Spec
from tasks.storage.files import open_read
from tasks.storage.uris import redact

SHOWN = 5  # names in a message


class Survey(Spec):
    """What there is of a modality, and what it is made of."""

    width: int = Field(description="Numbers of a sample.")
    num_train: int = Field(description="Rows with a label to learn from.")
    num_test: int = Field(description="Rows with a label for testing.")
    num_unlabelled: int = Field(0, description="Rows to learn from that have no label.")
    num_other: int = Field(0, description="Rows whose split is neither.")
    labels: dict[str, int] = Field(description="Rows to learn from of each label.")
    content: str = Field(description="Digest of what is learned from.")


def survey(uri: str, modality: str) -> Survey:
    """Read all rows of a modality once, and count them.

    Raises:
        BadFeatures: there are none to learn from, or some cannot be used.
    """
    files = find_files(uri)
    counts, labels, digest, width = Counter[str](), Counter[str](), hashlib.sha256(), 0
    for table in Rows(files, modality).pieces():
        values = features_of(table)
        width = width or values.shape[1]
        if values.shape[1] != width:
            msg = f"{redact(uri)}: {modality} has samples of {width} and of {values.shape[1]}"
            raise BadFeatures(f"{msg} features; a modality has one encoder and one width")
        parts, named = parts_of(table), _names(table)
        for part in ("train", "test", "other"):
            of_part = pc.equal(parts, part)
            known = named.filter(of_part).drop_null()
            counts[part] += len(known)
            counts[f"{part} rows"] += pc.sum(of_part).as_py()
            if part == "train":
                labels.update(known.to_pylist())
                digest.update(values[of_part.to_numpy()].numpy().tobytes())
                digest.update("\n".join(map(str, named.filter(of_part).to_pylist())).encode())
    _check(uri, modality, files, counts)
    return Survey(
        width=width,
        num_train=counts["train"],
        num_test=counts["test"],
        num_unlabelled=counts["train rows"] - counts["train"],
        num_other=counts["other rows"],
        labels=dict(sorted(labels.items())),
        content=digest.hexdigest()[:16],
    )


def _names(table: pa.Table) -> pa.ChunkedArray:
    if LABEL not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    labels = table[LABEL].cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(labels), ""), None, labels)


def _check(uri: str, modality: str, files: Sequence[str], counts: Counter[str]) -> None:
    if not sum(counts[f"{part} rows"] for part in ("train", "test", "other")):
        there = ", ".join(modalities_in(files)[:SHOWN]) or "none"
        msg = f"{redact(uri)}: expected rows of modality {modality!r}, it has those of {there}"
        raise BadFeatures(f"{msg}; check --modality")
    if not counts["train"]:
        why = "has a label" if counts["train rows"] else "has a split to learn from"
        msg = f"{redact(uri)}: none of the rows of {modality!r} {why}; a stage learns from labels: "
        raise BadFeatures(f"{msg}fill the column {LABEL}, and `train` under split")


def modalities_in(files: Sequence[str]) -> list[str]:
    """Return the names under `modality`, sorted."""
    found: set[str] = set()
    for uri in files:
        with open_read(uri) as file, pq.ParquetFile(file) as parquet:
            if MODALITY in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(columns=[MODALITY]):
                    found.update(pc.unique(batch.column(0).cast(pa.string())).to_pylist())
    return sorted(name for name in found if name is not None)
