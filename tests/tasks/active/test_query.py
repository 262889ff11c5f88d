"""A round over stages that are cut into few or many files: the same lesson, scores and question."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.active import score, train
from tasks.active.query import AskJob, _choose
from tasks.active.rounds import Rounds, RoundState
from tasks.active.score import ScoresRef
from tasks.active.start import StartRef
from tasks.active.train import LearnerRef
from tasks.active.training_set import RoundJob, read_lesson
from tasks.backbone import find_backbone
from tasks.refs import AnswersRef, BackboneRef, PoolRef
from tasks.specs import (
    ActiveSpec,
    BackboneSpec,
    CoftSpec,
    LearnerSpec,
    PoolSpec,
    QuerySpec,
    RoundsSpec,
)
from tasks.storage.tables import read_table, write_table
from tests.worlds.stages import CLASSES, COUNT, images, write_stages


@pytest.fixture(scope="module")
def backbone(tiny_clip: Path) -> BackboneRef:
    return find_backbone.fn(BackboneSpec(name=f"local-dir:{tiny_clip}"))


def stages(folder: Path, rows: int, dim: int) -> tuple[AnswersRef, StartRef, PoolRef]:
    """Write the stages before a round, with so many rows in a file."""
    pool, features, zero_shot, _ = write_stages(folder, rows, dim)
    answered = images(dim)[0].slice(1, 7).select(["image_id", "label"]).to_pylist()
    answers = [{**row, "kind": "label"} for row in answered]
    answers[0]["kind"] = "skip"
    write_table(str(folder / "answers.parquet"), pa.Table.from_pylist(answers))
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
    asked = _choose(AskJob(rounds, answers, ref, start.features, scores, start, pool, 9))
    parts = sorted((folder / "scores").iterdir())
    table = pa.concat_tables(read_table(str(part)) for part in parts)
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
