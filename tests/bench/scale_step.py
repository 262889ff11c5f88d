"""One step of a run over a made-up workspace, by coft's own code, in a process of its own.

`python -m tests.bench.scale_step WORKSPACE COUNT NEW STEP`: images are names, features are drawn,
and all else is real: listing, the join with what is known, labels, the most confident, the
cross-filter. Steps build on each other, in the order of `STEPS`. One process, without Ray: work on
parts that Ray would spread over cores is done one part after the other.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pyarrow as pa
import torch

from clipcore import checkpoint
from clipcore.head import Head
from tasks.compute import map_parts
from tasks.features import embedding
from tasks.features.actor import EmbedJob
from tasks.features.embedding import embed
from tasks.features.towers import Tower
from tasks.images.sources import LISTING, Source
from tasks.images.spilled import spill
from tasks.label import by_head, confident, cross_filter, zero_shot
from tasks.label.cross_filter import cross_filter as filter_labels
from tasks.label.zero_shot import label_zero_shot
from tasks.pool import open as pool_open
from tasks.pool import scan
from tasks.pool.open import open_images
from tasks.pool.scan import LISTED, listing_of
from tasks.pool.shards import ID, Shard
from tasks.pool.task import open_task
from tasks.pool.understood import ClassList, Understood
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, PeerRef, TaskRef
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.columns import fixed_size_list
from tasks.storage.files import write_bytes
from tasks.storage.layout import WEIGHTS, Folder, claim_workspace, in_workspace
from tasks.storage.store import absent_keys
from tasks.storage.uris import join
from tests.bench.measure import forget_peak, peak_rss_mb

DIM = 8
CLASSES = tuple(f"class {number}" for number in range(100))
ROWS = 16_384  # images of a part: for millions of images, sixteen times the default
BUCKET = "s3://made-up/images"
SIZE, VERSION = 50_000, "etag"
BATCH = 65_536


def main() -> None:
    """Run a step, and print how long it took and how much memory it had."""
    workspace, count, new, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    run = Run(workspace, count, new)
    STEPS[step](run, prepare=True)
    forget_peak()
    started, cpu = time.perf_counter(), time.process_time()
    facts = STEPS[step](run, prepare=False)
    measured = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": peak_rss_mb(),
        **facts,
    }
    sys.stdout.write(json.dumps(measured) + "\n")


class Run:
    """The references of a made-up run, found again by each step."""

    def __init__(self, workspace: str, count: int, new: int) -> None:
        self.count, self.new = count, new
        self.spec = CoftSpec(
            pool=PoolSpec(images=BUCKET, classes=",".join(CLASSES), rows_per_shard=ROWS),
            runtime=RuntimeSpec(workspace=workspace),
        )
        self.workspace = self.spec.runtime.workspace
        self.tower = Tower(digest="made-up", name="made-up", dim=DIM)
        self.backbone = BackboneRef(
            name="made-up", kind="vit", embed_dim=DIM, image_size=8, quick_gelu=False,
            weights_sha256="", preprocess_hash="",
        )  # fmt: skip

    def images(self) -> ImagesRef:
        """List the images, or find them listed."""
        source = Source(BUCKET, BUCKET, "images", listing(self.count + self.new))
        found = Understood((source,), ClassList(names=CLASSES, origin="made up"))
        with ExitStack() as stack:
            stack.enter_context(patch.object(pool_open, "take_understood", lambda *_, **__: found))
            stack.enter_context(patch.object(pool_open, "run_tasks", here))
            stack.enter_context(patch.object(scan, "read_images", drawn))
            ref: ImagesRef = open_images.fn(self.spec.pool, self.spec.runtime)
            return ref

    def task(self) -> TaskRef:
        """Return the classes."""
        task: TaskRef = open_task.fn(self.images(), self.spec.pool, self.spec.runtime)
        return task

    def embeddings(self) -> EmbeddingsRef:
        """Embed what is missing, or find it embedded."""
        with patch.object(embedding, "map_parts", draw_features):
            (found,) = embed(self.images(), [self.tower], self.spec, label="Embed")
        return found

    def zero_shot(self) -> LabelsRef:
        """Label, or find labelled."""
        with (
            patch.object(by_head, "run_tasks", here),
            patch.object(map_parts, "run_tasks", here),
            patch.object(zero_shot, "_write_head", write_classes),
        ):
            about = (self.embeddings(), self.images(), self.task())
            labels: LabelsRef = label_zero_shot.fn(*about, self.backbone, self.spec)
            return labels

    def peers(self) -> list[PeerRef]:
        """Write two peers that know the classes, and doubt other things."""
        return [write_peer(self.workspace, number) for number in (1, 2)]


def here(
    function: Callable[..., Any], items: Iterable[tuple[Any, ...]], **_: object
) -> Iterator[tuple[int, Any]]:
    """Do what `run_tasks` does, in this process."""
    yield from ((number, function(*item)) for number, item in enumerate(items))


def listing(count: int) -> pa.Table:
    """Return so many made-up objects of a bucket, as listing one would."""
    starts = range(0, count, BATCH)
    batches = (_objects(start, min(start + BATCH, count)) for start in starts)
    return spill(batches, LISTING)


def _objects(start: int, end: int) -> pa.RecordBatch:
    numbers, count = pa.array(np.arange(start, end)), end - start
    uris = pa.compute.binary_join_element_wise(
        pa.scalar(f"{BUCKET}/"), pa.compute.utf8_lpad(numbers.cast(pa.string()), 9, "0"), ".jpg", ""
    )
    columns = [uris, np.ones(count, np.int64), np.full(count, SIZE), pa.array([VERSION] * count)]
    return pa.table(columns, schema=LISTING).combine_chunks().to_batches()[0]


def drawn(uris: list[str], **_: object) -> Iterator[tuple[int, bytes]]:
    """Yield what is in new objects: a small image that no other object has."""
    for number, uri in enumerate(uris):
        header = b"P6 1 1 255 " + hashlib.sha256(uri.encode()).digest()
        yield number, header


def draw_features(
    _: type, job: EmbedJob, items: Iterable[tuple[Shard, ...]], *args: object, **named: object
) -> None:
    """Do without images what the actor does: draw the features that are missing, and store them."""
    draws = np.random.default_rng(0)
    centres = class_centres()
    for shards in items:
        for shard in shards:
            ids = shard.read_images([ID])[ID].combine_chunks()
            ids = absent_keys(ids, shard.stages[0], ID)
            labels = draws.integers(0, len(CLASSES), len(ids))
            vectors = centres[labels] + 0.2 * draws.normal(size=(len(ids), DIM))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            columns = [ids, fixed_size_list(vectors)]
            store = job.towers[0].features(job.workspace)
            store.add(pa.table(columns, names=[ID, "embedding"]))


def class_centres() -> np.ndarray:
    """Return the directions of the classes."""
    centres = np.random.default_rng(1).normal(size=(len(CLASSES), DIM))
    directions: np.ndarray = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return directions


def write_classes(folder: str, *_: object) -> None:
    """Write class embeddings as the text tower would."""
    by_head.write_head(folder, Head(torch.from_numpy(class_centres()).float(), 20.0))


def write_peer(workspace: str, number: int) -> PeerRef:
    """Write what is needed of a trained peer."""
    positive = torch.from_numpy(class_centres()).float()
    draws = torch.Generator().manual_seed(number)
    noise = torch.randn(positive.shape, generator=draws)
    negative = torch.nn.functional.normalize(positive.roll(1, 0) + 0.3 * noise, dim=1)
    tensors = {"positive": positive, "negative": negative, "logit_scale": torch.tensor(20.0)}
    folder = in_workspace(workspace, Folder.PEERS, f"peer-{number}")
    write_bytes(join(folder, WEIGHTS), checkpoint.to_bytes(tensors, {}))
    return PeerRef(uri=folder, digest=f"peer-{number}", peer=number, phase=1)


# --- steps ------------------------------------------------------------------------------------


def know(run: Run, *, prepare: bool) -> dict[str, Any]:
    """Write what a run of before knows of all but the new objects: it is not measured."""
    if prepare:
        return {}
    claim_workspace(run.workspace)
    store = listing_of(in_workspace(run.workspace, Folder.LISTING))
    database = duckdb.connect(config={"memory_limit": "2GB"})
    query = f"""
        select substr(sha256(concat_ws(chr(10), uri, {SIZE}, '{VERSION}')), 1, 32) as key,
            {SIZE}::bigint as bytes, sha256(uri) as image_id, 640::int as width,
            480::int as height, null::text as reason, null::text as detail
        from (select '{BUCKET}/' || lpad(i::text, 9, '0') || '.jpg' as uri
            from range({run.count}) made(i)) order by key
    """  # noqa: S608  # no word of it is anybody's
    for batch in database.sql(query).to_arrow_reader(BATCH):
        store.add(pa.Table.from_batches([batch]).cast(LISTED))
    return {}


def list_images(run: Run, *, prepare: bool) -> dict[str, Any]:
    """List all, read the new ones, and write the images by id."""
    return {} if prepare else {"images": run.images().num_pool}


def embed_images(run: Run, *, prepare: bool) -> dict[str, Any]:
    """Find which images have no features, and draw these."""
    if prepare:
        run.images()
        return {}
    return {"images": run.embeddings().rows}


def label(run: Run, *, prepare: bool) -> dict[str, Any]:
    """Label all images zero-shot."""
    if prepare:
        run.embeddings()
        run.task()
        return {}
    return {"labels": run.zero_shot().rows}


def choose(run: Run, *, prepare: bool) -> dict[str, Any]:
    """Choose the most confident of each class."""
    if prepare:
        run.zero_shot()
        return {}
    with (
        patch.object(confident, "run_tasks", here),
        patch.object(map_parts, "run_tasks", here),
    ):
        about = (run.zero_shot(), run.embeddings(), run.images(), run.task())
        found: LabelsRef = confident.most_confident.fn(*about, run.spec)
    return {"kept": found.num_kept}


def filter_both(run: Run, *, prepare: bool) -> dict[str, Any]:
    """Cross-filter the labels of two peers."""
    if prepare:
        run.embeddings()
        run.task()
        return {}
    with (
        patch.object(cross_filter, "run_tasks", here),
        patch.object(map_parts, "run_tasks", here),
    ):
        seen = (run.embeddings(),) * 2
        one, two = filter_labels.fn(run.peers(), seen, run.images(), run.task(), run.spec)
    return {"kept": one.num_kept + two.num_kept}


STEPS = {
    "know": know,
    "list": list_images,
    "embed": embed_images,
    "label": label,
    "choose": choose,
    "filter": filter_both,
}

if __name__ == "__main__":
    main()
