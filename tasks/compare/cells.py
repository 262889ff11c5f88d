"""A cell of the arena: one method with one seed at one balance, run in a worker of its own core."""

import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from clipcore.baselines.evidence import Evidence, Scores, no_pixels
from clipcore.baselines.methods import LABELLED_METHODS, METHODS
from tasks.backbone import load_backbone
from tasks.compare.cuts import rows_of_splits, told_labels
from tasks.compare.specs import Balance
from tasks.compute.memory import peak_memory
from tasks.features.image_pixels import Reading, pixels_behind
from tasks.features.in_memory import read_all
from tasks.pool.readers import value_of
from tasks.pool.truth import TrueLabels
from tasks.progress import say
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, TaskRef
from tasks.sentences.embedded import TextRef, read_sentences
from tasks.storage.columns import class_numbers
from tasks.storage.files import write_json
from tasks.storage.tables import write_table

FAILED = ".failed.json"


@dataclass(frozen=True)
class Sources:
    """The images, their features, the classes and what is said of them.

    Methods that tune the image tower need to know, too, how images are read.
    """

    images: ImagesRef
    embeddings: EmbeddingsRef
    task: TaskRef
    text: TextRef
    backbone: BackboneRef
    reading: Reading | None = None


@dataclass(frozen=True)
class Cell:
    """One method with one seed at one balance.

    Attributes:
        method: Its name.
        seed: Of every draw.
        balance: Which images there are.
        shots: Images of each class whose labels a method with labels sees.
        sources: What it is run on.
        place: URI without its ending: `.parquet` has the predictions; `.json`, written last, what
            they took; `.failed.json` why there are none.
    """

    method: str
    seed: int
    balance: Balance
    shots: int
    sources: Sources
    place: str

    @property
    def uri(self) -> str:
        """Return the file that marks a finished cell."""
        return f"{self.place}.json"


@dataclass(frozen=True)
class Cut:
    """The images of a balance: evidence, their ids, and labels, -1 where there is none."""

    evidence: Evidence
    pool_ids: pa.Array
    test_ids: pa.Array
    pool_labels: torch.Tensor


def run_cell(cell: Cell) -> int:
    """Run a method, and write what it says of each image.

    A method that fails leaves a file that says why; the next run tries it again.
    """
    torch.set_num_threads(1)  # a cell a core; sums do not depend on the number of threads
    cut = _cut(cell.sources, cell.balance)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        with peak_memory() as peak:
            scores = _scores(cell, cut)
            _check(scores)
    except Exception as error:  # noqa: BLE001  # a row that says so, not the end of all others
        say(f"{cell.method}, seed {cell.seed}, {cell.balance}: {error}")
        why = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        write_json(cell.place + FAILED, why)
        return 1
    took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    write_table(f"{cell.place}.parquet", _predictions(cut, scores))
    facts = {**took, "peak_bytes": peak[0], "num_parameters": scores.num_parameters}
    write_json(cell.uri, {**facts, "is_linear": scores.head is not None})
    return 1


def _scores(cell: Cell, cut: Cut) -> Scores:
    if cell.method in METHODS:
        return METHODS[cell.method](cut.evidence, cell.seed)
    told = told_labels(cut.pool_labels, cell.shots, cell.seed)
    return LABELLED_METHODS[cell.method](cut.evidence, told, cell.seed)


def _check(scores: Scores) -> None:
    for name, found in (("pool", scores.pool), ("test", scores.test)):
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"scores of the {name} that are no numbers")


def _predictions(cut: Cut, scores: Scores) -> pa.Table:
    """Return (image_id, split, label, confidence, taught): class numbers, -1 for none."""
    taught = np.full(len(cut.pool_ids), -1)
    if scores.taught is not None:
        taught[scores.taught.positions.numpy()] = scores.taught.labels.numpy()
    parts = []
    for split, ids, found in (
        ("pool", cut.pool_ids, scores.pool),
        ("test", cut.test_ids, scores.test),
    ):
        confidence, labels = found.max(dim=1)
        parts.append(
            pa.table(
                {
                    "image_id": ids,
                    "split": pa.array([split] * len(ids), pa.string()),
                    "label": labels.numpy(),
                    "confidence": confidence.numpy(),
                    "taught": taught if split == "pool" else np.full(len(ids), -1),
                }
            )
        )
    return pa.concat_tables(parts)


@lru_cache(maxsize=1)  # cells come balance by balance
def _cut(sources: Sources, balance: Balance) -> Cut:
    ids, is_test, features, labels = read_labelled(sources)
    rows = rows_of_splits(labels, is_test, balance, len(sources.task.classes))
    sentences, logit_scale = read_sentences(sources.text)
    name, reading = sources.backbone.name, sources.reading
    pool_ids, test_ids = ids.take(pa.array(rows.pool)), ids.take(pa.array(rows.test))
    evidence = Evidence(
        pool=features[torch.from_numpy(rows.pool)],
        test=features[torch.from_numpy(rows.test)],
        sentences=sentences,
        logit_scale=logit_scale,
        classes=sources.task.classes,
        load_backbone=lambda: load_backbone(name),
        load_pixels=no_pixels
        if reading is None
        else pixels_behind(
            sources.images,
            pool_ids,
            test_ids,
            reading,
            lambda: load_backbone(name).visual.preprocess,
        ),
    )
    return Cut(
        evidence,
        pool_ids,
        test_ids,
        torch.from_numpy(labels[rows.pool]),
    )


@lru_cache(maxsize=1)
def read_labelled(sources: Sources) -> tuple[pa.Array, np.ndarray, torch.Tensor, np.ndarray]:
    """Return ids, which are for testing, features and class numbers, in the order of ids."""
    ids, is_test, features = read_all(sources.images, sources.embeddings)
    known = value_of(TrueLabels(sources.task).about(ids), ids, "label")
    return ids, is_test, features, class_numbers(sources.task.classes, known).numpy()


def facts_of(cell: Cell) -> dict[str, Any]:
    """Return the columns that tell one cell from another."""
    return {"method": cell.method, "seed": cell.seed, "balance": cell.balance}
