"""Whether the choice of class sentences without labels is the one that labels would make.

`python -m tests.bench.class_sentences --images FILE [--classes FILE] [--from FILE]
[--endpoint URL --model NAME] [--backbone NAME] [--template TEXT] --workspace FOLDER` prints each
set with what the pool says of it, and its zero-shot accuracy on the pool and on the test images.
"""

import argparse
import os
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow

from infra import offline
from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.pool.open import open_images
from tasks.pool.shards import shards
from tasks.pool.task import open_task
from tasks.refs import EmbeddingsRef, ImagesRef, SentencesRef, Split, TaskRef
from tasks.sentences.choice import SETS_FILE, choose_sentences
from tasks.sentences.evidence import heads_in
from tasks.sentences.record import read_record
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    EndpointSpec,
    LabelSpec,
    PoolSpec,
    RuntimeSpec,
    SentencesSpec,
)
from tasks.storage.manifest import iter_tables


@flow(name="class-sentences")
def chosen(spec: CoftSpec) -> tuple[ImagesRef, TaskRef, EmbeddingsRef, SentencesRef]:
    """Choose class sentences; return what is needed to look at the other sets too."""
    backbone = find_backbone(spec.backbone, spec.runtime)
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    embeddings = embed_pool(images, backbone, spec)
    return images, task, embeddings, choose_sentences(embeddings, images, task, backbone, spec)


def accuracies(
    images: ImagesRef,
    task: TaskRef,
    embeddings: EmbeddingsRef,
    sentences: SentencesRef,
    split: Split,
) -> dict[str, float]:
    """Return the zero-shot accuracy of every set on the images of a split."""
    labels = pa.concat_tables(iter_tables(task.uri))
    right: dict[str, list[np.ndarray]] = {}
    heads = heads_in(sentences.uri, SETS_FILE)
    for shard in shards(images, embeddings):
        ids, features = shard.features(split=split)
        places = pc.index_in(ids, labels["image_id"].combine_chunks())
        known = places.is_valid().to_numpy(zero_copy_only=False)
        names = labels["label"].take(places.drop_null()).to_pylist()
        truth = np.array([task.classes.index(name) for name in names])
        for name, head in heads.items():
            said = head.predict(features)[0].numpy()[known]
            right.setdefault(name, []).append(said == truth)
    return {name: float(np.concatenate(parts).mean()) for name, parts in right.items()}


def rows(sentences: SentencesRef, accuracy: list[dict[str, float]]) -> Iterator[str]:
    """Yield the table in Markdown."""
    yield "| set | mutual information | smallest class share, of plain | accuracy, pool | test |"
    yield "|---|---|---|---|---|"
    for row in read_record(sentences.file).candidates:
        name = f"**{row.name}**" if row.name == sentences.chosen else row.name
        found = " | ".join(f"{of_split[row.name]:.3f}" for of_split in accuracy)
        yield f"| {name} | {row.mutual_information:.3f} | {row.least_share:.2f} | {found} |"


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="tests.bench.class_sentences", description=__doc__)
    for name in ("images", "workspace"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("classes", "from", "endpoint", "model"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--template", help="in place of the plain ones")
    asked = vars(parser.parse_args())
    endpoint = EndpointSpec(url=asked["endpoint"], model=asked["model"]) if asked["model"] else None
    spec = CoftSpec(
        pool=PoolSpec(images=asked["images"], classes=asked["classes"], labels="column"),
        backbone=BackboneSpec(name=asked["backbone"]),
        label=LabelSpec(templates=(asked["template"],)) if asked["template"] else LabelSpec(),
        sentences=SentencesSpec(file=asked["from"], endpoint=endpoint),
        runtime=RuntimeSpec(workspace=asked["workspace"], num_actors=1),
    )
    offline.apply()
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    about = chosen(spec)
    splits: tuple[Split, ...] = ("pool", "test") if about[0].num_test else ("pool",)
    table = rows(about[-1], [accuracies(*about, split) for split in splits])
    sys.stdout.write("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
