"""Rounds of active learning on drawn images, with settings that train in seconds."""

from pathlib import Path

import pyarrow as pa

from tasks.active.rounds import open_rounds
from tasks.active.specs import ActiveSpec, LearnerSpec, QuerySpec
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import (
    AdapterSpec,
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    Phase1Spec,
    PoolSpec,
    RuntimeSpec,
    SgdSpec,
    TopSpec,
)
from tasks.storage.manifest import iter_tables

NAME = "colours"
PER_ROUND = 6


def active_spec(images: Path, workspace: Path, clip: Path, **changes: object) -> ActiveSpec:
    run = CoftSpec(
        pool=PoolSpec(images=str(images), labels="column", rows_per_shard=16),
        backbone=BackboneSpec(name=f"local-dir:{clip}"),
        label=LabelSpec(top=TopSpec(per_class=4, min_total=0)),
        phase1=Phase1Spec(
            epochs=2, min_steps=0, batch_size=8, adapter=AdapterSpec(num_visual_prompts=2)
        ),
        runtime=RuntimeSpec(workspace=str(workspace)),
    )
    learner = LearnerSpec(
        epochs=2, min_steps=4, top=TopSpec(per_class=4, min_total=0), sgd=SgdSpec(learning_rate=0.1)
    )
    query = QuerySpec(per_round=PER_ROUND, max_similarity=1.0)
    values = {"run": run, "learner": learner, "query": query, "start": "zero-shot", **changes}
    return ActiveSpec.model_validate(values)


def here(place: str) -> RuntimeSpec:
    return RuntimeSpec(workspace=place)


def file_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def images_of(workspace: str) -> pa.Table:
    """Return (image_id, uri, label) of the images of the rounds."""
    images, task = refs_of_rounds(workspace)
    labels = pa.concat_tables(iter_tables(task.uri, ["image_id", "label"]))
    located = pa.concat_tables(iter_tables(images.uri, ["image_id", "uri"]))
    return located.join(labels, "image_id").sort_by("image_id").combine_chunks()


def refs_of_rounds(workspace: str) -> tuple[ImagesRef, TaskRef]:
    spec = open_rounds(here(workspace), NAME).spec.active.run
    images = open_images.fn(spec.pool, spec.runtime)
    return images, open_task.fn(images, spec.pool, spec.runtime)


def truth_of(workspace: str) -> dict[str, str]:
    return {row["image_id"]: row["label"] for row in images_of(workspace).to_pylist()}


def write_answers(path: Path, rows: dict[str, str]) -> str:
    lines = ["image_id,label", *(f"{image},{label}" for image, label in rows.items())]
    path.write_text("\n".join(lines))
    return str(path)
