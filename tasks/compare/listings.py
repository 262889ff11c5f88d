"""The images of a balance as a Parquet file that `--images` takes: for methods that are flows."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.compare.cells import Sources, read_labelled
from tasks.compare.cuts import rows_of_splits
from tasks.compare.specs import Balance, CompareSpec
from tasks.compute.calls import run_tasks
from tasks.pool.readers import iter_images, value_of
from tasks.refs import Ref
from tasks.specs import COLUMN, PoolSpec
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.manifest import Part
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import write_table
from tasks.storage.uris import join

KIND, CUTS = Folder.COMPARISONS, "cuts"


class CutRef(Ref):
    """A Parquet file of (uri, label, split), with all class names: a listing without pixels."""

    images: str


@step("cut images")
def cut_images(sources: Sources, spec: CompareSpec, balance: Balance) -> CutRef:
    """List the images that a balance keeps, the same ones that it keeps for all other methods.

    A listing names images where they are. What a workspace knows of an image it knows by its
    content, so that features and decoded pixels are found again.

    Args:
        sources: The images, their features and labels.
        spec: Where to run, and what the images are called.
        balance: How the classes are to be spread.
    """
    about = (sources.embeddings.digest, sources.images.uri, sources.task.digest)
    digest = fingerprint("cut", *about, balance)
    folder = in_workspace(spec.runtime.workspace, KIND, CUTS, digest)
    name = f"{Path(spec.run.pool.images).stem or 'images'}-{balance}.parquet"

    def compute() -> Outcome:
        work = [(sources, balance, join(folder, name))]
        ((_, count),) = run_tasks(_write, work, runtime=spec.runtime)
        return Outcome(parts=(Part(name=name, rows=count),))

    manifest, resumed = once(folder, kind=KIND, digest=digest, label=name, compute=compute)
    return CutRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        images=join(folder, manifest.parts[0].name),
    )


def pool_of_cut(pool: PoolSpec, cut: CutRef) -> PoolSpec:
    """Return the images of a cut, under the limits of those that it was made from."""
    listing = {
        "images": cut.images,
        "test": None,
        "classes": None,
        "class_column": None,
        "labels": COLUMN,
        "label_columns": None,
    }
    return pool.model_copy(update=listing)


def _write(sources: Sources, balance: Balance, uri: str) -> int:
    ids, is_test, _, labels = read_labelled(sources)
    rows = rows_of_splits(labels, is_test, balance, len(sources.task.classes))
    kept = np.sort(np.concatenate(rows))
    found = pa.concat_tables(iter_images(sources.images, ["image_id", "uri"]))
    names = np.array(sources.task.classes, dtype=object)
    table = pa.table(
        {
            "uri": value_of(found, ids.take(pa.array(kept)), "uri"),
            "label": pa.array(names[labels[kept]], pa.string()),
            "split": pa.array(np.where(is_test[kept], "test", "pool"), pa.string()),
        }
    )
    table = table.replace_schema_metadata({"classes": json.dumps(list(sources.task.classes))})
    write_table(uri, table)
    return len(table)
