"""Predict with a state: a row for each sample, with the modality that it was taken for."""

import json
import posixpath
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from clipcore.harmony.model import predict_among
from clipcore.harmony.state import Prediction, State, predict
from tasks.compute.calls import run_tasks
from tasks.compute.map_parts import write_missing
from tasks.features.embedding import embed
from tasks.features.towers import tower_of
from tasks.harmony.files import SAMPLE, find_files
from tasks.harmony.known import KnownState
from tasks.harmony.learn import load_state
from tasks.harmony.rows import features_of
from tasks.harmony.specs import PredictSpec
from tasks.harmony.unknown import RowGroup, alike, row_groups
from tasks.pool.readers import value_of
from tasks.pool.shards import ID, Shard, shards
from tasks.predict import first_two
from tasks.refs import EmbeddingsRef, ImagesRef, Ref
from tasks.specs import CoftSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash
from tasks.storage.layout import Folder, claim_workspace, in_workspace
from tasks.storage.manifest import Part, part_name
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import append_tables, count_rows, read_table, write_table
from tasks.storage.uris import join

_ANSWER = [
    ("modality", pa.string()),
    ("modality_confidence", pa.float32()),  # 1 where somebody said which it is
    ("label", pa.string()),
    ("confidence", pa.float32()),
    ("runner_up", pa.string()),
    ("probabilities", pa.list_(pa.float32())),
]
SAMPLES = pa.schema([(SAMPLE, pa.string()), *_ANSWER])
IMAGES = pa.schema([(ID, pa.string()), ("uri", pa.string()), *_ANSWER])

Work = tuple[Callable[..., int], Mapping[str, tuple[Any, ...]]]


class Taken(Spec):
    """What was taken for one modality."""

    modality: str
    count: int
    certainty: float = Field(description="Mean probability that it is this one.")


class AnswersRef(Ref):
    """`part-*.parquet` of `SAMPLES` or `IMAGES`."""

    taken: tuple[Taken, ...]
    features: EmbeddingsRef | None = Field(None, description="The images as their tower sees them.")


@step("embed images")
def embed_images(known: KnownState, images: ImagesRef, spec: PredictSpec) -> EmbeddingsRef:
    """Return the features of images by the tower that their modality was learned with.

    Raises:
        InputError: nobody can say which tower that is, or no image could be decoded.
    """
    modality = known.of_images(spec.modality)[0]
    assert modality.tower is not None  # noqa: S101  # of images
    tower = tower_of(modality.tower)
    if modality.place is not None:
        tower = replace(tower, backbone="", model=known.uri, member=modality.place)
    assert spec.pool is not None  # noqa: S101  # who has images has said which
    about = CoftSpec(pool=spec.pool, runtime=spec.runtime)
    (features,) = embed(images, [tower], about, label=f"Embed with {tower.name}")
    return features


@step("predict images")
def predict_images(
    known: KnownState, images: ImagesRef, features: EmbeddingsRef, spec: PredictSpec
) -> AnswersRef:
    """Write an answer for each image, from its features."""
    names = tuple(one.name for one in known.of_images(spec.modality))
    digest = fingerprint(Folder.MODALITIES, known.digest, features.digest, names)
    folder = in_workspace(spec.runtime.workspace, Folder.MODALITIES, digest)
    parts = {part.span.file_name(digest): part for part in shards(images, features)}
    work = {
        join(folder, name): (folder, name, part, known.uri, names) for name, part in parts.items()
    }
    found = _finish(folder, digest, known, (_predict_shard, work), features.rows, spec)
    return found.model_copy(update={"features": features})


@step("predict samples")
def predict_samples(known: KnownState, spec: PredictSpec) -> AnswersRef:
    """Write an answer for each row of Parquet files of features.

    Raises:
        InputError: a row cannot be one of what was learned, or has no usable features.
    """
    claim_workspace(spec.runtime.workspace)
    files = find_files(str(spec.embeddings))
    asked = None if spec.modality is None else known.named(spec.modality).name
    contents = dict(run_tasks(content_hash, [(uri,) for uri in files], runtime=spec.runtime))
    named = [(posixpath.basename(uri), contents[place]) for place, uri in enumerate(files)]
    made_from = (known.digest, named, asked)
    digest = fingerprint(Folder.MODALITIES, *made_from)
    folder = in_workspace(spec.runtime.workspace, Folder.MODALITIES, digest)
    groups = [group for uri in files for group in row_groups(uri)]
    names = [part_name(place, digest) for place in range(len(groups))]
    work = {
        join(folder, name): (folder, name, group, known, asked)
        for name, group in zip(names, groups, strict=True)
    }
    total = sum(group.rows for group in groups)
    return _finish(folder, digest, known, (_predict_rows, work), total, spec)


def _finish(  # both predictions end here
    folder: str, digest: str, known: KnownState, work: Work, total: int, spec: PredictSpec
) -> AnswersRef:
    """Write the parts that are missing, and count what they say."""

    def compute() -> Outcome:
        function, calls = work
        write_missing(function, calls, spec.runtime, label="Predict", total=total, unit="samples")
        names = [name for _, name, *_ in calls.values()]
        taken = _count([join(folder, name) for name in names], known)
        parts = [Part(name=name, rows=count_rows(join(folder, name))) for name in names]
        return Outcome(parts, {"taken": [one.model_dump(mode="json") for one in taken]})

    manifest, resumed = once(
        folder, kind=Folder.MODALITIES, digest=digest, label="Predict", compute=compute
    )
    return AnswersRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        taken=manifest.facts["taken"],
    )


def _count(parts: Sequence[str], known: KnownState) -> list[Taken]:
    """Return how many samples were taken for each modality, in the order of the state's own."""
    counts, sums = defaultdict[str, int](int), defaultdict[str, float](float)
    for part in parts:
        said = read_table(part, ["modality", "modality_confidence"])
        each = said.group_by("modality").aggregate(
            [("modality_confidence", "sum"), ([], "count_all")]
        )
        for row in each.to_pylist():
            counts[row["modality"]] += row["count_all"]
            sums[row["modality"]] += row["modality_confidence_sum"]
    return [
        Taken(modality=name, count=counts[name], certainty=sums[name] / counts[name])
        for name in (one.name for one in known.modalities)
        if counts[name]
    ]


# --- in a worker ----------------------------------------------------------------------------------


def _predict_shard(folder: str, name: str, part: Shard, state: str, among: Sequence[str]) -> int:
    """Write the answers to one part of the images."""
    ids, features = part.features()
    images = part.read_images([ID, "uri"])
    known = load_state(state)
    columns = _columns(known, [(np.arange(len(ids)), predict_among(known, features, among))])
    about = {ID: ids, "uri": value_of(images, ids, "uri")}
    write_table(join(folder, name), pa.table({**about, **columns}).cast(_naming(IMAGES, known)))
    return len(ids)


def _predict_rows(
    folder: str, name: str, group: RowGroup, known: KnownState, asked: str | None
) -> int:
    """Write the answers to one part of a file of features, some rows at a time."""
    state = load_state(known.uri)
    answers = (_answers(table, state, known, asked) for table in group.tables())
    return append_tables(join(folder, name), _naming(SAMPLES, state), answers)


def _naming(schema: pa.Schema, state: State) -> pa.Schema:
    """Return a schema whose metadata name the classes of the probabilities."""
    return schema.with_metadata({"classes": json.dumps(state.classes)})


def _answers(table: pa.Table, state: State, known: KnownState, asked: str | None) -> pa.Table:
    said = [
        (places, predict(state, features_of(table.take(places)), modality))
        for places, modality in alike(table, known, asked)
    ]
    return pa.table({SAMPLE: table[SAMPLE], **_columns(state, said)})


def _columns(state: State, said: Sequence[tuple[np.ndarray, Prediction]]) -> dict[str, pa.Array]:
    """Return the columns of answers, in the order of the places that each prediction is about."""
    places = np.concatenate([places for places, _ in said] or [np.zeros(0, np.int64)])
    back = pa.array(np.argsort(places))
    empty = np.zeros((0, len(state.classes)), np.float32)
    probabilities = np.concatenate([one.probabilities.numpy() for _, one in said] or [empty])
    columns = {
        "modality": pa.array([name for _, one in said for name in one.modalities], pa.string()),
        "modality_confidence": pa.array(
            [sure for _, one in said for sure in one.certainty.tolist()], pa.float32()
        ),
        **first_two(probabilities, state.classes),
        "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
    }
    return {field: pc.take(columns[field], back) for field, _ in _ANSWER}
