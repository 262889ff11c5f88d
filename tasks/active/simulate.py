"""Rounds that a labelled data set answers itself: every strategy and seed, side by side on Ray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import checkpoint
from clipcore.active import simulation
from clipcore.active.oracle import Oracle
from clipcore.active.probe import probe_accuracy
from clipcore.active.simulation import Images, Method, train_first
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner
from clipcore.head import Head
from tasks.active import simulation_report
from tasks.active.learners import RoundTraining, new_learner
from tasks.active.specs import LearnerSpec, QuerySpec, SimulationSpec
from tasks.active.start import StartRef, load_start, read_labelled, read_start_head
from tasks.compute.calls import device_of
from tasks.compute.map_parts import write_missing
from tasks.evaluate import labels_of, tally
from tasks.images.pixels import pixels_of_run
from tasks.images.training_pixels import TrainingPixels
from tasks.refs import BackboneRef, ImagesRef, Ref, TaskRef
from tasks.specs import CoftSpec, InputError, PoolSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import local_copy, read_json, write_bytes, write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.tracking.runs import Run, log_file, log_metrics

KIND = Folder.SIMULATIONS
TRIALS = "trials"
RESULTS = "results.json"
PAGE = "findings.html"
LABELS_ONLY = "labels only"
SHARE = 0.01  # of the pool that a round asks about (active paper, 4.1)


@dataclass(frozen=True)
class Trial:
    """One line and seed of the plot: how a round learns, what it asks, and the seed of both."""

    learner: LearnerSpec
    query: QuerySpec
    seed: int
    flip: bool


@dataclass(frozen=True)
class TrialJob:
    """The inputs of a trial, the device that it runs on, and where its rows go."""

    start: StartRef
    images: ImagesRef
    task: TaskRef
    backbone: str
    trial: Trial
    rounds: int
    limits: PoolSpec
    pixel_cache: int | None
    device: str
    first_uri: str
    uri: str


class SimulationRef(Ref):
    """`results.json`: for each line of the plot, what each round of each seed measured."""


def check_measurable(images: ImagesRef, task: TaskRef) -> None:
    """Refuse a data set that cannot tell how good a round is.

    Raises:
        InputError: there is no test split, or nothing has a label.
    """
    if not task.labeled or not images.num_test:
        raise InputError(
            "A simulation measures on images that it never asks about: expected labels and a test "
            f"split, got {images.num_test} test images. Name some with --test, or mark rows of a "
            "Parquet file with split = test."
        )


@step("simulate rounds")
def simulate_rounds(  # noqa: PLR0913  # what a simulation depends on
    start: StartRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: SimulationSpec,
    run: Run,
    *,
    coft_accuracy: float | None = None,
) -> SimulationRef:
    """Run every trial that is not finished, and the probe with all labels, and gather the results.

    Beside the strategies there is one line of random queries without pseudo-labels, so that what
    the choice of images gives and what the pseudo-labels give can be told apart.
    """
    active, runtime = spec.active, spec.active.run.runtime
    digest = fingerprint(
        KIND,
        start.digest,
        coft_accuracy,
        spec.strategies,
        spec.seeds,
        spec.rounds,
        spec.per_round,
        active.learner,
        active.query,
        active.run.seed,
        active.run.flip,
    )
    folder = in_workspace(runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        jobs = _jobs(start, images, task, backbone, spec, _device(spec))
        probe = in_workspace(runtime.workspace, KIND, TRIALS, f"probe-{start.digest}.json")
        stages: list[tuple[str, Callable[..., int], dict[str, tuple[Any, ...]]]] = [
            ("Probe", _probe, {probe: (start, images, task, active.run.seed, probe)}),
            ("Simulate round 0", _first, {job.first_uri: (job,) for _, job in jobs}),
            ("Simulate", _play, {job.uri: (job,) for _, job in jobs}),
        ]
        for label, function, work in stages:
            write_missing(
                function,
                work,
                runtime,
                label=label,
                total=len(work),
                unit="trials",
                single_threaded=jobs[0][1].device == "cpu",
            )
        results = _gather(jobs, start, task, probe, coft_accuracy)
        write_json(join(folder, RESULTS), results)
        return Outcome(parts=())

    manifest, resumed = once(folder, kind=KIND, digest=digest, label="Simulate", compute=compute)
    _publish(folder, active.run, run)
    return SimulationRef(uri=folder, digest=digest, seconds=manifest.seconds, resumed=resumed)


def read_findings(simulation: SimulationRef) -> tuple[dict[str, Any], list[str]]:
    """Return the results of a simulation as numbers, and in lines for a person."""
    summary = simulation_report.summarize(read_json(join(simulation.uri, RESULTS)))
    page = join(simulation.uri, PAGE)
    return {**summary, "report": page}, [*simulation_report.lines(summary), f"report: {page}"]


def _publish(folder: str, spec: CoftSpec, run: Run) -> None:
    """Write the page of the findings, and record them."""
    summary = simulation_report.summarize(read_json(join(folder, RESULTS)))
    title = f"Which images to ask about: {Path(spec.pool.images).stem}"
    text = simulation_report.page(summary, title=title, command=spec.command)
    write_bytes(join(folder, PAGE), text.encode())
    log_metrics(run, simulation_report.metrics(summary))
    for name in (RESULTS, PAGE):
        log_file(run, join(folder, name), folder="simulation")


def _gather(
    jobs: Sequence[tuple[str, TrialJob]],
    start: StartRef,
    task: TaskRef,
    probe: str,
    coft_accuracy: float | None,
) -> dict[str, Any]:
    """Return the rows of every trial by line and seed, beside what needs none of their labels."""
    before = tally(task, labels_of(start.zero_shot.uri, "confidence"), "test")
    results: dict[str, Any] = {
        "levels": {
            "zero-shot": before and before["accuracy"],
            "CoFT without labels": coft_accuracy,
            "all labels, linear": read_json(probe)["accuracy"],
        },
        "lines": {},
    }
    for name, job in jobs:
        line = results["lines"].setdefault(name, {})
        line[str(job.trial.seed)] = read_json(job.uri)
    return results


def _device(spec: SimulationSpec) -> str:
    """Return where trials run: learners on features are quick on a core."""
    active = spec.active
    if active.learner.on_features:
        return "cpu"
    return device_of(active.run.runtime)


def _jobs(
    start: StartRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: SimulationSpec,
    device: str,
) -> list[tuple[str, TrialJob]]:
    """Return (line of the plot, trial), with files by what each is made from.

    More seeds or strategies leave finished trials finished. Trials of one seed share round 0: it
    has no answers, so its learner is the same in all.
    """
    run = spec.active.run
    jobs = []
    for name, trial in _trials(spec, images.num_pool):
        learner = trial.learner.model_copy(update={"pseudo_labels": True, "spread_answers": False})
        first = fingerprint("first", start.digest, learner, trial.seed, trial.flip)
        made_from = (trial.learner, trial.query, trial.seed, trial.flip, spec.rounds)
        rows = fingerprint("trial", start.digest, *made_from)
        job = TrialJob(
            start=start,
            images=images,
            task=task,
            backbone=backbone.name,
            trial=trial,
            rounds=spec.rounds,
            limits=run.pool,
            pixel_cache=run.runtime.pixel_cache,
            device=device,
            first_uri=in_workspace(run.runtime.workspace, KIND, TRIALS, f"{first}.safetensors"),
            uri=in_workspace(run.runtime.workspace, KIND, TRIALS, f"{rows}.json"),
        )
        jobs.append((name, job))
    return jobs


def _trials(spec: SimulationSpec, num_pool: int) -> list[tuple[str, Trial]]:
    """Return (line of the plot, trial) for all, the seeds of a line side by side."""
    active = spec.active
    per_round = spec.per_round or max(1, round(SHARE * num_pool))
    query = active.query.model_copy(update={"per_round": per_round})
    lines = [
        (name, active.learner, query.model_copy(update={"strategy": name}))
        for name in spec.strategies
    ]
    if active.learner.on_pseudo_labels:
        plain = active.learner.model_copy(update={"pseudo_labels": False, "spread_answers": False})
        random = query.model_copy(update={"strategy": "random"})
        lines.append((f"random {LABELS_ONLY}", plain, random))
    seeds = range(active.run.seed, active.run.seed + spec.seeds)
    return [
        (name, Trial(learner=learner, query=query, seed=seed, flip=active.run.flip))
        for seed in seeds
        for name, learner, query in lines
    ]


def _first(job: TrialJob) -> int:
    """Train and write the learner of round 0."""
    images, _ = _data_set(job)
    tensors = train_first(images, read_start_head(job.start), _method(job, images))
    write_bytes(job.first_uri, checkpoint.to_bytes(tensors, {}))
    return 1


def _play(job: TrialJob) -> int:
    """Play and write one trial."""
    images, oracle = _data_set(job)
    with local_copy(job.first_uri) as path:
        first, _ = checkpoint.read(str(path))
    start, method = read_start_head(job.start), _method(job, images)
    rows = simulation.simulate(images, start, oracle, method, rounds=job.rounds, first=first)
    write_json(job.uri, rows)
    return 1


def _data_set(job: TrialJob) -> tuple[Images, Oracle]:
    """Return the data set of a trial; a learner that works through the tower gets pixels."""
    torch.set_num_threads(1)  # one trial a core; sums do not depend on the number of threads
    if job.trial.learner.on_features:
        return read_labelled(job.start.features, job.images, job.task)
    preprocess = load_start(job.backbone, job.start, device="cpu").visual.preprocess

    def load_pixels(ids: list[str], uris: list[str]) -> Tensor:
        pixels = pixels_of_run(preprocess, job.limits, job.pixel_cache, device="cpu")
        return TrainingPixels(pixels, ids, uris).mapped()

    return read_labelled(job.start.features, job.images, job.task, load_pixels)


def _method(job: TrialJob, images: Images) -> Method:
    """Return the method of a trial; learners on features share one backbone."""
    head = read_start_head(job.start)
    if job.trial.learner.on_features:
        backbone = load_start(job.backbone, job.start, device=job.device)
        return method_of(job.trial, images.classes, head, lambda: backbone)
    return method_of(
        job.trial,
        images.classes,
        head,
        lambda: load_start(job.backbone, job.start, device=job.device),
    )


def method_of(
    trial: Trial, classes: Sequence[str], start: Head, new_backbone: Callable[[], Backbone]
) -> Method:
    """Return a trial as a method of `clipcore.active.simulation`.

    Args:
        trial: Learner, query and seed.
        classes: The class names.
        start: Names the first pseudo-labels.
        new_backbone: Returns the frozen backbone of a round.
    """
    spec, query = trial.learner, trial.query
    given = F.normalize(start.embeddings, dim=1)

    def new() -> DualLearner:
        return new_learner(
            new_backbone(), classes, spec, given=given, seed=trial.seed, flip=trial.flip
        )

    return Method(
        new_learner=new,
        train=lambda learner, data: RoundTraining(learner, data, spec, seed=trial.seed).run_all(),
        strategy=query.strategy,
        per_round=query.per_round,
        max_similarity=query.max_similarity,
        pseudo_labels=spec.on_pseudo_labels,
        per_class=spec.top.per_class,
        minimum_total=spec.top.min_total,
        seed=trial.seed,
        spread_answers=spec.spread_answers,
    )


def _probe(start: StartRef, about: ImagesRef, task: TaskRef, seed: int, uri: str) -> int:
    """Write what a linear classifier reaches with all labels of the pool."""
    images, oracle = read_labelled(start.features, about, task)
    labels = oracle.answer(range(len(images.features)))
    accuracy = probe_accuracy(
        images.features, labels, images.test_features, images.test_labels, seed=seed
    )
    write_json(uri, {"accuracy": accuracy})
    return 1
