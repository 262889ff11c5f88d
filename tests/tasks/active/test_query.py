"""A round on files: the same training set, scores and query however the files are cut, and the
same queries as the simulation, which holds everything in memory."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from clipcore.active.oracle import Oracle
from clipcore.active.simulation import simulate, train_first
from tasks.active import score, train
from tasks.active.query import QueryJob, choose_query
from tasks.active.rounds import Rounds, RoundState
from tasks.active.score import ScoresRef
from tasks.active.simulate import Trial, method_of
from tasks.active.specs import ActiveSpec, LearnerSpec, QuerySpec, RoundsSpec
from tasks.active.start import StartRef, read_labelled, read_start_head
from tasks.active.train import LearnerRef
from tasks.active.training_set import RoundJob, read_training_set
from tasks.backbone import describe, load_backbone
from tasks.pool.readers import iter_images
from tasks.pool.shards import shards
from tasks.refs import AnswersRef, BackboneRef, ImagesRef, TaskRef
from tasks.specs import BackboneSpec, CoftSpec, PoolSpec, SgdSpec, TopSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import read_table, write_table
from tests.worlds.stages import CLASSES, COUNT, images, stage, write_stages

About = tuple[ImagesRef, TaskRef]

PER_ROUND = 9
ANSWERS_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("label", pa.string()), ("kind", pa.string())]
)
LEARNER = LearnerSpec(
    epochs=1,
    min_steps=4,
    top=TopSpec(per_class=3, min_total=0),
    sgd=SgdSpec(learning_rate=0.1),
)


@pytest.fixture(scope="module")
def backbone(tiny_clip: Path) -> BackboneRef:
    return describe(BackboneSpec(name=f"local-dir:{tiny_clip}"))


def stages(folder: Path, rows: int, dim: int) -> tuple[AnswersRef, StartRef, About]:
    """Write the stages before a round, with so many rows in a file."""
    pool, features, zero_shot, _ = write_stages(folder, rows, dim)
    answered = images(dim)[0].slice(1, 7).select(["image_id", "label"]).to_pylist()
    answers = [{**row, "kind": "label"} for row in answered]
    answers[0]["kind"] = "skip"
    write_table(str(folder / "answers.parquet"), pa.Table.from_pylist(answers))
    answers_ref = AnswersRef(uri=str(folder / "answers.parquet"), digest="answers")
    return answers_ref, StartRef(features=features, zero_shot=zero_shot), pool


def rounds_spec(
    strategy: str, max_candidates: int = 50_000, learner: LearnerSpec = LEARNER
) -> RoundsSpec:
    query = QuerySpec(strategy=strategy, per_round=PER_ROUND, max_similarity=0.999)
    run = CoftSpec(pool=PoolSpec(images="memory://"))
    return RoundsSpec(
        name="shards",
        budget=50,
        active=ActiveSpec(run=run, learner=learner, query=query, start="zero-shot"),
        max_candidates=max_candidates,
    )


def play_round(
    folder: Path,
    spec: RoundsSpec,
    number: int,
    stages: tuple[AnswersRef, StartRef, About],
    backbone: BackboneRef,
) -> tuple[RoundJob, list[str]]:
    """Train, score and ask in this process, on the files of a round; return what was asked."""
    answers, start, pool = stages
    states = [RoundState(number=n, num_labels=0, num_asked=0, query_size=7) for n in range(number)]
    rounds = Rounds(spec=spec, folder=str(folder), states=tuple(states))
    job = train._job(rounds, answers, start, *pool, backbone)
    train._train_on_features(job)
    scores = folder / f"round-{number:02d}" / "scores"
    tables = []
    for part in shards(pool[0], start.features):
        uri = str(scores / part.span.file_name("scores"))
        score._score_part(job.folder, part, uri, CLASSES)
        tables.append(read_table(uri))
    stage(scores, tables, digest="scores")
    learner = LearnerRef(uri=job.folder, digest="learner", num_labels=6, num_pseudo=9)
    ref = ScoresRef(uri=str(scores), digest="scores")
    query = QueryJob(rounds, answers, learner, start.features, ref, start, *pool, PER_ROUND)
    return job, choose_query(query).ids


def play(
    folder: Path, rows: int, backbone: BackboneRef, strategy: str, max_candidates: int
) -> tuple[object, ...]:
    """Play one round on files of so many rows; return all that it came to."""
    made = stages(folder, rows, backbone.embed_dim)
    spec = rounds_spec(strategy, max_candidates)
    job, asked = play_round(folder / "rounds", spec, 0, made, backbone)
    trained = read_training_set(job)
    table = pa.concat_tables(iter_tables(str(folder / "rounds" / "round-00" / "scores")))
    return trained.ids, trained.answers.tolist(), trained.pseudo_labels.tolist(), table, asked


@pytest.mark.slow  # four trainings for each strategy
@pytest.mark.parametrize("strategy", ["paper", "badge", "random", "pcb", "transductive", "psp"])
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
    assert table.num_rows == COUNT - 1, "all but the copy"


@pytest.mark.parametrize("strategy", ["entropy", "agreement", "clusters-first:margin"])
def test_of_a_large_pool_a_ranking_sees_what_it_would_rank_first(
    tmp_path: Path, backbone: BackboneRef, strategy: str
) -> None:
    *_, all_of_them = play(tmp_path / "all", 7, backbone, strategy, 50_000)
    *_, few = play(tmp_path / "few", 7, backbone, strategy, 12)
    assert few == all_of_them


def test_of_a_large_pool_another_strategy_sees_a_fair_sample(
    tmp_path: Path, backbone: BackboneRef
) -> None:
    *_, sample = play(tmp_path / "sample", 7, backbone, "random", 12)
    pool = [row["image_id"] for row in images(backbone.embed_dim)[0].to_pylist()]
    assert len(set(sample)) == 9
    assert max(sample) < sorted(pool)[30], "a sample of the lowest hashes"


# --- rounds on files ask what the simulation asks -------------------------------------------------


class RecordingOracle(Oracle):
    """An oracle that remembers which positions it was asked about."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(oracle._labels)
        self.asked: list[list[int]] = []

    def answer(self, positions: Sequence[int]) -> torch.Tensor:
        self.asked.append(list(positions))
        return super().answer(positions)


def simulated_queries(
    start: StartRef,
    pool: About,
    backbone: BackboneRef,
    spec: ActiveSpec,
    rounds: int,
) -> list[list[str]]:
    images, oracle = read_labelled(start.features, *pool)
    recording = RecordingOracle(oracle)
    loaded = load_backbone(backbone.name)
    trial = Trial(learner=spec.learner, query=spec.query, seed=spec.run.seed, flip=True)
    head = read_start_head(start)
    method = method_of(trial, CLASSES, head, lambda: loaded)
    first = train_first(images, head, method)
    simulate(images, head, recording, method, rounds=rounds, first=first)
    tables = iter_images(pool[0], ["image_id"], "pool")
    ids = sorted(row for table in tables for row in ids_of(table))
    return [[ids[position] for position in asked] for asked in recording.asked]


def ids_of(table: pa.Table) -> list[str]:
    ids: list[str] = table["image_id"].to_pylist()
    return ids


SPREADING = LEARNER.model_copy(update={"spread_answers": True})
KNOWN = ["paper", "badge", "random", "pcb"]
LATER = ["agreement", "transductive", "tfs", "pcb:psp", "clusters-first:paper"]


@pytest.mark.parametrize(
    ("strategy", "learner"),
    [*((name, LEARNER) for name in [*KNOWN, *LATER]), ("paper", SPREADING)],
    ids=[*KNOWN, *LATER, "paper-spreading"],
)
def test_rounds_on_files_ask_what_the_simulation_asks(
    tmp_path: Path, backbone: BackboneRef, strategy: str, learner: LearnerSpec
) -> None:
    pool, features, zero_shot, _ = write_stages(tmp_path, 16, backbone.embed_dim)
    start = StartRef(features=features, zero_shot=zero_shot)
    spec = rounds_spec(strategy, learner=learner)
    truth = {row["image_id"]: row["label"] for row in images(backbone.embed_dim)[0].to_pylist()}
    asked: list[list[str]] = []
    for number in range(3):
        answers = [
            {"image_id": image, "label": truth[image], "kind": "label"}
            for query in asked
            for image in query
        ]
        uri = str(tmp_path / f"answers-{number}.parquet")
        write_table(uri, pa.Table.from_pylist(answers, ANSWERS_SCHEMA))
        answered = AnswersRef(uri=uri, digest=f"{number}", num_labels=len(answers))
        made = (answered, start, pool)
        asked.append(play_round(tmp_path / "rounds", spec, number, made, backbone)[1])
    assert asked == simulated_queries(start, pool, backbone, spec.active, rounds=3)
    assert len({image for query in asked for image in query}) == 3 * PER_ROUND
