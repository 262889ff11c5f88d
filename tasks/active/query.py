"""Choose what a round asks, and put the question in every form that a person may want."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.candidates import Candidates
from clipcore.active.query import query
from clipcore.active.strategies import find_strategy, is_ranking
from clipcore.seeding import generator
from tasks.active.rounds import LABEL_STUDIO, QUERY_FILE, SHEET, Rounds, num_answered
from tasks.active.score import ScoresRef, read_learner
from tasks.active.start import StartRef
from tasks.active.train import LearnerRef
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.label_studio import write_tasks
from tasks.answers.schema import QUERY
from tasks.compute.cluster import run_tasks
from tasks.pool.readers import only_pool
from tasks.progress import say
from tasks.refs import AnswersRef, EmbeddingsRef, PoolRef
from tasks.specs import PoolSpec
from tasks.storage.columns import read_features
from tasks.storage.files import exists
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import part_uris, step
from tasks.storage.tables import count_rows, read_table, write_table
from tasks.storage.uris import join

WHY = {
    "paper": "least likely to be right among the images taken for {label}",
    "paper-global": "least likely to be right among the images taken for {label}",
    "random": "drawn at random",
    "entropy": "the model finds several classes likely",
    "margin": "two classes are almost equally likely",
    "confidence": "no class is likely",
    "coreset": "unlike everything that was answered or asked",
    "badge": "would change the model much, in a way that others do not",
    "typical": "typical of a group of images without an answer",
    "cec": "stands for a group of doubtful images",
}


@dataclass(frozen=True)
class AskJob:
    """What choosing a query is told."""

    rounds: Rounds
    answers: AnswersRef
    learner: LearnerRef
    seen: EmbeddingsRef
    scores: ScoresRef
    start: StartRef
    pool: PoolRef
    budget: int


@dataclass(frozen=True)
class Rows:
    """Images that can be asked about, or were answered, with what is known of each."""

    ids: list[str]
    features: Tensor
    probabilities: Tensor
    gap: Tensor
    looks: Tensor

    def take(self, positions: list[int]) -> "Rows":
        """Return some of the rows, in this order."""
        where = torch.tensor(positions, dtype=torch.long)
        return Rows(
            [self.ids[position] for position in positions],
            self.features[where],
            self.probabilities[where],
            self.gap[where],
            self.looks[where],
        )


@step("ask")
def ask(  # noqa: PLR0913, PLR0917  # what a question depends on
    rounds: Rounds,
    answers: AnswersRef,
    learner: LearnerRef,
    seen: EmbeddingsRef,
    scores: ScoresRef,
    start: StartRef,
    pool: PoolRef,
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
        job = AskJob(rounds, answers, learner, seen, scores, start, pool, budget)
        list(run_tasks(_write_query, [(job, uri)], runtime=spec.active.run.runtime))
    asked = count_rows(uri)
    if asked:
        say(f"Round {rounds.number} asks about {asked} images: {join(folder, SHEET)}")
    return asked


def _write_query(job: AskJob, uri: str) -> None:
    """Choose in a worker; the table comes last, so that its existence proves the sheets."""
    torch.set_num_threads(1)
    chosen = _choose(job) if job.budget > 0 else []
    table = _table(job, chosen)
    folder = job.rounds.round_folder(job.rounds.number)
    limits = job.rounds.spec.active.run.pool
    if chosen:
        _write_sheets(table, folder, job, limits)
    write_table(uri, table)


def _write_sheets(table: pa.Table, folder: str, job: AskJob, limits: PoolSpec) -> None:
    classes, name = job.pool.classes, f"{job.rounds.spec.name}-round-{job.rounds.number}"
    sheet = join(folder, SHEET)
    write_contact_sheet(sheet, table, classes=classes, max_pixels=limits.max_pixels)
    write_tasks(
        join(folder, LABEL_STUDIO),
        table,
        classes=classes,
        model=name,
        max_pixels=limits.max_pixels,
    )


def _choose(job: AskJob) -> list[str]:
    """Return the ids that the strategy asks about, in its order."""
    spec = job.rounds.spec
    answers = read_table(job.answers.uri, ["image_id", "kind", "label"]).to_pylist()
    labels = {row["image_id"]: row["label"] for row in answers if row["kind"] == "label"}
    pool, known = _read(job, {row["image_id"] for row in answers if row["kind"] != "conflict"})
    known = known.take([row for row, image in enumerate(known.ids) if image in labels])
    candidates = Candidates(
        features=pool.features,
        probabilities=pool.probabilities,
        gap=pool.gap,
        labeled_features=known.features,
        labels=torch.tensor([job.pool.classes.index(labels[image]) for image in known.ids]).long(),
        looks=pool.looks,
        labeled_looks=known.looks,
    )
    draws = generator(spec.active.run.seed, "active", "query", job.rounds.number)
    asking = spec.active.query
    chosen = query(
        find_strategy(asking.strategy),
        candidates,
        job.budget,
        draws,
        max_similarity=asking.max_similarity,
    )
    return [pool.ids[position] for position in chosen.tolist()]


def _read(job: AskJob, closed: set[str]) -> tuple[Rows, Rows]:
    """Return (candidates, closed images), each in order of id; at most `max_candidates` of those.

    Of a larger pool a ranking strategy sees the images that it would rank first; another one sees
    those with the lowest ids, which are hashes of the content, so a fair sample.
    """
    most = job.rounds.spec.max_candidates
    strategy = job.rounds.spec.active.query.strategy
    found: list[Rows] = []
    shut: list[Rows] = []
    for part in _parts(job):
        left = [row for row, image in enumerate(part.ids) if image not in closed]
        gone = [row for row, image in enumerate(part.ids) if image in closed]
        shut.append(part.take(gone))
        found.append(part.take(left))
        if sum(len(rows.ids) for rows in found) > most:
            whole = _sorted(found)
            best = _ranked(whole, strategy, most) if is_ranking(strategy) else range(most)
            found = [whole.take(sorted(best))]
    return _sorted(found), _sorted(shut)


def _ranked(rows: Rows, strategy: str, most: int) -> list[int]:
    """Return the positions that a ranking strategy would take first."""
    candidates = Candidates(
        features=rows.features,
        probabilities=rows.probabilities,
        gap=rows.gap,
        labeled_features=rows.features[:0],
        labels=torch.zeros(0, dtype=torch.long),
        looks=rows.looks,
        labeled_looks=rows.looks[:0],
    )
    ranking = find_strategy(strategy.removeprefix("pcb:"))
    positions: list[int] = ranking(candidates, most, torch.Generator()).tolist()
    return positions


def _sorted(parts: list[Rows]) -> Rows:
    """Return all rows in order of id."""
    ids = [image for part in parts for image in part.ids]
    whole = Rows(
        ids,
        torch.cat([part.features for part in parts]),
        torch.cat([part.probabilities for part in parts]),
        torch.cat([part.gap for part in parts]),
        torch.cat([part.looks for part in parts]),
    )
    return whole.take(sorted(range(len(ids)), key=lambda row: ids[row]))


def _parts(job: AskJob) -> Iterator[Rows]:
    """Yield the images of the pool split, shard by shard, as the learner sees them."""
    model = read_learner(job.learner.uri)
    parts = zip(part_uris(job.start.features.uri), part_uris(job.seen.uri), strict=True)
    for number, (start_uri, seen_uri) in enumerate(parts):
        ids, looks = read_features(start_uri)
        others, seen = (ids, looks) if seen_uri == start_uri else read_features(seen_uri)
        if not others.equals(ids):
            raise AssertionError(f"{seen_uri}: other images than in {start_uri}")
        table = pa.table({"image_id": ids, "row": pa.array(range(len(ids)))})
        kept = only_pool(table, job.pool.uri, number)
        keep = torch.from_numpy(kept["row"].to_numpy().copy())
        scores = model.score(seen[keep])
        names = kept["image_id"].to_pylist()
        yield Rows(names, scores.features, scores.probabilities, scores.gap, looks[keep])


def _table(job: AskJob, chosen: list[str]) -> pa.Table:
    """Return the query as a table, in the order in which to ask."""
    wanted = pa.array(chosen, pa.string())
    rows: dict[str, dict[str, object]] = {image: {} for image in chosen}
    for table in iter_tables(job.scores.uri, ["image_id", "label", "confidence", "gap"]):
        for row in table.filter(pc.is_in(table["image_id"], wanted)).to_pylist():
            rows[row["image_id"]].update(row)
    for table in iter_tables(job.pool.uri, ["image_id", "uri", "duplicate_of"]):
        first = table.filter(table["duplicate_of"].is_null())
        for row in first.filter(pc.is_in(first["image_id"], wanted)).to_pylist():
            rows[row["image_id"]]["uri"] = row["uri"]
    strategy = job.rounds.spec.active.query.strategy
    why = WHY.get(strategy, f"chosen by {strategy}")
    for position, image in enumerate(chosen):
        row = rows[image]
        row["reason"] = why.format(label=row["label"])
        row["position"], row["round"] = position, job.rounds.number
    return pa.Table.from_pylist([rows[image] for image in chosen], schema=QUERY)
