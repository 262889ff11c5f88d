"""A round over stages that are cut into few or many files: the same lesson, scores and question."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tasks import shards
from tasks.active import ask, score, train
from tasks.active.ask import AskJob
from tasks.active.lesson import RoundJob, read_lesson
from tasks.active.score import ScoresRef
from tasks.active.session import Rounds, RoundState
from tasks.active.start import StartRef
from tasks.active.train import LearnerRef
from tasks.embed import find_backbone
from tasks.shards import Part
from tasks.specs import (
    ActiveSpec,
    AnswersRef,
    BackboneRef,
    BackboneSpec,
    CoftSpec,
    EmbeddingsRef,
    LabelsRef,
    LearnerSpec,
    PoolRef,
    PoolSpec,
    QuerySpec,
    RoundsSpec,
)
from tasks.vectors import fixed_size_list

CLASSES = ("red", "green", "blue")
COUNT = 70


@pytest.fixture(scope="module")
def backbone(tiny_clip: Path) -> BackboneRef:
    return find_backbone.fn(BackboneSpec(name=f"local-dir:{tiny_clip}"))


def stage(folder: Path, tables: list[pa.Table]) -> str:
    """Write a finished stage of these parts."""
    parts = []
    for number, table in enumerate(tables):
        name = shards.part_name(number, "0123456789abcdef")
        shards.write_table(str(folder / name), table)
        parts.append(Part(name=name, rows=table.num_rows))
    shards.write_manifest(str(folder), shards.make_manifest("test", "0123456789abcdef", parts))
    return str(folder)


def cut(table: pa.Table, rows: int) -> list[pa.Table]:
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


def images(dim: int) -> tuple[pa.Table, pa.Table, torch.Tensor]:
    """Return (pool, embeddings, class embeddings); two images are copies, a few are for testing."""
    draws = np.random.default_rng(0)
    labels = np.arange(COUNT) % len(CLASSES)
    centres = F.normalize(torch.from_numpy(draws.normal(size=(len(CLASSES), dim))).float(), dim=1)
    noise = 0.1 * torch.from_numpy(draws.normal(size=(COUNT, dim))).float()
    features = F.normalize(centres[torch.from_numpy(labels)] + noise, dim=1)
    ids = [f"{number * 7919 % 1000:032x}" for number in range(COUNT)]
    pool = pa.table(
        {
            "image_id": ids,
            "uri": [f"memory://{image}" for image in ids],
            "split": ["test" if number % 9 == 0 else "pool" for number in range(COUNT)],
            "label": [CLASSES[label] for label in labels],
            "duplicate_of": pa.array([None] * (COUNT - 1) + ["copy"], pa.string()),
        }
    )
    embeddings = pa.table({"image_id": ids, "embedding": fixed_size_list(features.numpy())})
    return pool, embeddings, centres


def stages(folder: Path, rows: int, dim: int) -> tuple[AnswersRef, StartRef, PoolRef]:
    """Write the stages before a round, with so many rows in a file."""
    pool_table, embeddings, centres = images(dim)
    answered = pool_table.slice(1, 7).select(["image_id", "label"]).to_pylist()
    answers = [{**row, "kind": "label"} for row in answered]
    answers[0]["kind"] = "skip"
    shards.write_table(str(folder / "answers.parquet"), pa.Table.from_pylist(answers))
    (folder / "zero-shot").mkdir(parents=True)
    tensors = {"embeddings": centres, "logit_scale": torch.tensor(20.0)}
    save_file(tensors, folder / "zero-shot" / "classes.safetensors")
    pool = PoolRef(
        uri=stage(folder / "pool", cut(pool_table, rows)),
        digest="pool",
        classes=CLASSES,
        labeled=True,
        num_pool=0,
        num_test=0,
        num_duplicates=1,
        num_quarantined=0,
    )
    uri = stage(folder / "features", cut(embeddings, rows))
    features = EmbeddingsRef(uri=uri, digest="features", dim=dim, model="test")
    zero_shot = LabelsRef(uri=str(folder / "zero-shot"), digest="zero", source="zero-shot")
    answers_ref = AnswersRef(uri=str(folder / "answers.parquet"), digest="answers")
    return answers_ref, StartRef(features=features, zero_shot=zero_shot), pool


def play(
    folder: Path, rows: int, backbone: BackboneRef, strategy: str, max_candidates: int
) -> tuple[object, ...]:
    """Play the second round on files of so many rows; return all that it came to."""
    answers, start, pool = stages(folder, rows, backbone.embed_dim)
    learner = LearnerSpec(epochs=1, min_steps=4, per_class=3, min_pseudo=0, learning_rate=0.1)
    query = QuerySpec(strategy=strategy, per_round=9, max_similarity=0.999)
    run = CoftSpec(pool=PoolSpec(images="memory://"))
    spec = RoundsSpec(
        name="shards",
        budget=50,
        active=ActiveSpec(run=run, learner=learner, query=query, start="zero-shot"),
        max_candidates=max_candidates,
    )
    state = RoundState(number=0, num_labels=0, num_asked=0, query_size=7)
    rounds = Rounds(spec=spec, folder=str(folder / "rounds"), states=(state,))
    job = RoundJob(
        folder=str(folder / "learner"),
        answers=answers,
        start=start,
        pool=pool,
        backbone=backbone,
        rounds=rounds,
        last_scores=None,
    )
    lesson = read_lesson(job)
    train._train(job)
    for part in Path(start.features.uri).glob("part-*"):
        target = str(folder / "scores" / part.name)
        score._score_part(job.folder, str(part), target, CLASSES)
    ref = LearnerRef(uri=job.folder, digest="learner", num_labels=6, num_pseudo=9)
    scores = ScoresRef(uri=str(folder / "scores"), digest="scores")
    asked = ask._choose(AskJob(rounds, answers, ref, start.features, scores, start, pool, 9))
    parts = sorted((folder / "scores").iterdir())
    table = pa.concat_tables(shards.read_table(str(part)) for part in parts)
    return lesson.ids, lesson.answers.tolist(), lesson.pseudo_labels.tolist(), table, asked


@pytest.mark.parametrize("strategy", ["paper", "badge", "random", "pcb"])
def test_the_number_of_files_changes_nothing(
    tmp_path: Path, backbone: BackboneRef, strategy: str
) -> None:
    whole = play(tmp_path / "whole", COUNT, backbone, strategy, 50_000)
    for rows in (1, 7, 64):
        assert play(tmp_path / f"cut-{rows}", rows, backbone, strategy, 50_000) == whole
    ids, answers, _, table, asked = whole
    assert len(answers) == 6, "a skipped image teaches nothing"
    pool = images(backbone.embed_dim)[0].to_pylist()
    closed = {row["image_id"] for row in pool[1:8]}
    askable = {row["image_id"] for row in pool if row["split"] == "pool"} - closed
    assert len(set(asked)) == 9
    assert set(asked) <= askable
    assert set(ids) <= {row["image_id"] for row in pool if row["split"] == "pool"}
    assert table.num_rows == COUNT


def test_of_a_large_pool_a_ranking_sees_what_it_would_rank_first(
    tmp_path: Path, backbone: BackboneRef
) -> None:
    *_, all_of_them = play(tmp_path / "all", 7, backbone, "entropy", 50_000)
    *_, few = play(tmp_path / "few", 7, backbone, "entropy", 12)
    assert few == all_of_them
    *_, sample = play(tmp_path / "sample", 7, backbone, "random", 12)
    pool = [row["image_id"] for row in images(backbone.embed_dim)[0].to_pylist()]
    assert len(set(sample)) == 9
    assert max(sample) < sorted(pool)[30], "a sample of the lowest hashes"
