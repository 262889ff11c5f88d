"""Choose what a round asks, and put the question in every form that a person may want."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.candidates import Candidates
from clipcore.active.rounds import next_query
from clipcore.active.strategies import find_strategy
from clipcore.active.strategy_names import is_ranking, strategy_now
from tasks.active.rounds import LABEL_STUDIO, QUERY_FILE, SHEET, Rounds, has_labels, num_answered
from tasks.active.score import RoundModel, ScoresRef, read_learner
from tasks.active.start import StartRef
from tasks.active.train import LearnerRef
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.label_studio import write_tasks
from tasks.answers.likely import likeliest
from tasks.answers.schema import ASKED
from tasks.compute.calls import run_tasks
from tasks.label.people import answers_about
from tasks.pool.readers import uris_of
from tasks.pool.shards import shards
from tasks.progress import say
from tasks.refs import AnswersRef, EmbeddingsRef, ImagesRef, TaskRef
from tasks.specs import PoolSpec
from tasks.storage.files import exists
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step
from tasks.storage.tables import count_rows, read_table, write_table
from tasks.storage.uris import join

WHY = {
    "paper": "least likely to be right among the images taken for {label}",
    "paper-global": "least likely to be right among the images taken for {label}",
    "random": "drawn at random",
    "entropy": "the model finds several classes likely",
    "margin": "two classes are almost equally likely",
    "confidence": "no class is likely",
    "agreement": "like none of the classes, not even {label}",
    "transductive": "images that look like it belong to two classes",
    "coreset": "unlike everything that was answered or asked",
    "badge": "would change the model much, in a way that others do not",
    "typical": "typical of a group of images without an answer",
    "cec": "stands for a group of doubtful images",
    "tfs": "{label} has few answers, and the model finds several classes likely",
    "psp": "images that look like it were taken for another class",
}


@dataclass(frozen=True)
class QueryJob:
    """The inputs of a query: all stages of the round so far."""

    rounds: Rounds
    answers: AnswersRef
    learner: LearnerRef
    features: EmbeddingsRef
    scores: ScoresRef
    start: StartRef
    images: ImagesRef
    task: TaskRef
    budget: int

    @property
    def strategy(self) -> str:
        """Return the name of the strategy that chooses in this round."""
        name = self.rounds.spec.active.query.strategy
        return strategy_now(name, answered=has_labels(self.answers))


@dataclass(frozen=True)
class Rows:
    """Images that can be asked about, or have an answer, with the learner's scores of each."""

    ids: list[str]
    labels: Tensor
    features: Tensor
    probabilities: Tensor
    gap: Tensor
    start_features: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def take(self, positions: Sequence[int]) -> "Rows":
        """Return some of the rows, in this order."""
        where = torch.tensor(positions, dtype=torch.long)
        columns = [value[where] for name, value in vars(self).items() if name != "ids"]
        return Rows([self.ids[position] for position in positions], *columns)

    def candidates(self, answered: "Rows", class_embeddings: Tensor) -> Candidates:
        """Return these rows as what a strategy chooses from, beside those with an answer."""
        return Candidates(
            features=self.features,
            probabilities=self.probabilities,
            gap=self.gap,
            labeled_features=answered.features,
            labels=answered.labels,
            start_features=self.start_features,
            labeled_start_features=answered.start_features,
            class_embeddings=class_embeddings,
        )


@step("ask")
def ask(  # noqa: PLR0913, PLR0917  # what a question depends on
    rounds: Rounds,
    answers: AnswersRef,
    learner: LearnerRef,
    features: EmbeddingsRef,
    scores: ScoresRef,
    start: StartRef,
    images: ImagesRef,
    task: TaskRef,
) -> int:
    """Write the query of this round, a contact sheet and Label Studio tasks; return its size.

    An image is asked about once: what was answered, skipped or called none of the classes is not
    asked again. What was asked and has no answer, or answers that contradict each other, may be.
    """
    folder = rounds.round_folder(rounds.number)
    uri = join(folder, QUERY_FILE)
    spec = rounds.spec
    budget = min(spec.active.query.per_round, spec.budget - num_answered(answers))
    if not exists(uri):
        job = QueryJob(rounds, answers, learner, features, scores, start, images, task, budget)
        list(run_tasks(_write_query, [(job, uri)], runtime=spec.active.run.runtime))
    asked = count_rows(uri)
    if asked:
        say(f"Round {rounds.number} asks about {asked} images: {join(folder, SHEET)}")
    return asked


def _write_query(job: QueryJob, uri: str) -> None:
    """Choose in a worker; the table comes last, so that its existence proves the sheets."""
    torch.set_num_threads(1)
    chosen = choose_query(job) if job.budget > 0 else None
    table = _table(job, chosen)
    folder = job.rounds.round_folder(job.rounds.number)
    limits = job.rounds.spec.active.run.pool
    if len(table):
        _write_sheets(table.drop_columns("features"), folder, job, limits)
    write_table(uri, table)


def _write_sheets(table: pa.Table, folder: str, job: QueryJob, limits: PoolSpec) -> None:
    classes, name = job.task.classes, f"{job.rounds.spec.name}-round-{job.rounds.number}"
    sheet = join(folder, SHEET)
    write_contact_sheet(sheet, table, classes=classes, max_pixels=limits.max_pixels)
    write_tasks(
        join(folder, LABEL_STUDIO),
        table,
        classes=classes,
        model=name,
        max_pixels=limits.max_pixels,
    )


def choose_query(job: QueryJob) -> Rows:
    """Return the images that the strategy asks about, in its order."""
    spec = job.rounds.spec
    model = read_learner(job.learner.uri)
    candidates, answered = _read(job, model)
    chosen = next_query(
        candidates.candidates(answered, model.class_embeddings),
        job.budget,
        strategy=spec.active.query.strategy,
        max_similarity=spec.active.query.max_similarity,
        seed=spec.active.run.seed,
        round_number=job.rounds.number,
    )
    return candidates.take(chosen.tolist())


def _read(job: QueryJob, model: RoundModel) -> tuple[Rows, Rows]:
    """Return (candidates, answered images), each by id; at most `max_candidates` candidates.

    Of a larger pool a ranking strategy sees the images that it would rank first; another one sees
    those with the lowest ids, which are hashes of the content, so a fair sample.
    """
    most = job.rounds.spec.max_candidates
    strategy = job.strategy
    closed = _closed(job.answers)
    candidates: list[Rows] = []
    answered: list[Rows] = []
    for part in _parts(job, model):
        is_closed = [image in closed for image in part.ids]
        has_label = (part.labels >= 0).tolist()
        answered.append(part.take([row for row, yes in enumerate(has_label) if yes]))
        candidates.append(part.take([row for row, yes in enumerate(is_closed) if not yes]))
        if sum(map(len, candidates)) > most:
            whole = _by_id(candidates)
            best = _ranked(whole, strategy, most, model) if is_ranking(strategy) else range(most)
            candidates = [whole.take(sorted(best))]
    return _by_id(candidates), _by_id(answered)


def _closed(answers: AnswersRef) -> set[str]:
    """Return the images that are not asked about again; contradicting answers close nothing."""
    table = read_table(answers.uri, ["image_id", "kind"])
    decided = table.filter(pc.not_equal(table["kind"], "conflict"))
    return set(decided["image_id"].to_pylist())


def _ranked(rows: Rows, strategy: str, most: int, model: RoundModel) -> list[int]:
    """Return the positions that a ranking strategy would take first."""
    ranking = find_strategy(strategy.removeprefix("pcb:"))
    candidates = rows.candidates(rows.take([]), model.class_embeddings)
    positions: list[int] = ranking(candidates, most, torch.Generator()).tolist()
    return positions


def _by_id(parts: list[Rows]) -> Rows:
    """Return all rows in the order of the ids."""
    ids = [image for part in parts for image in part.ids]
    names = [name for name in vars(parts[0]) if name != "ids"]
    columns = [torch.cat([getattr(part, name) for part in parts]) for name in names]
    return Rows(ids, *columns).take(sorted(range(len(ids)), key=lambda row: ids[row]))


def _parts(job: QueryJob, model: RoundModel) -> Iterator[Rows]:
    """Yield the images of the pool split, part by part, as the learner sees them."""
    seen = (job.start.features, job.features)
    stages = seen[:1] if seen[0].digest == seen[1].digest else seen
    for shard in shards(job.images, *stages):
        ids, features = shard.features_of_all("pool")
        scores = model.score(features[-1])
        labels = answers_about(ids, job.answers, job.task.classes).labels
        yield Rows(
            ids.to_pylist(),
            labels,
            scores.features,
            scores.probabilities,
            scores.gap,
            features[0],
        )


def _table(job: QueryJob, chosen: Rows | None) -> pa.Table:
    """Return the query as a table (schema `ASKED`), in the order in which to ask."""
    if chosen is None:
        return ASKED.empty_table()
    wanted = pa.array(chosen.ids, pa.string())
    rows: dict[str, dict[str, object]] = {image: {} for image in chosen.ids}
    for table in iter_tables(job.scores.uri, ["image_id", "label", "confidence", "gap"]):
        for row in table.filter(pc.is_in(table["image_id"], wanted)).to_pylist():
            rows[row["image_id"]].update(row)
    seen = zip(
        uris_of(job.images, chosen.ids),
        likeliest(chosen.probabilities.numpy(), job.task.classes),
        chosen.start_features.half().numpy(),
        strict=True,
    )
    strategy = job.strategy
    why = WHY.get(strategy, f"chosen by {strategy}")
    for position, (row, (uri, likely, features)) in enumerate(
        zip(rows.values(), seen, strict=True)
    ):
        row |= {"uri": uri, "likely": likely, "features": features}
        row |= {"reason": why.format(label=row["label"])}
        row |= {"position": position, "round": job.rounds.number}
    return pa.Table.from_pylist(list(rows.values()), schema=ASKED)
