"""Rounds that a labelled data set answers itself: every strategy and seed, side by side on Ray."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from clipcore import checkpoint
from clipcore.active.oracle import Oracle
from clipcore.active.strategies import UnknownStrategy, find_strategy
from clipcore.backbone import Backbone
from clipcore.seeding import derive_seed
from tasks.active import simulation_report
from tasks.active.start import StartRef, load_start, read_beginning, read_labelled
from tasks.active.trial import Images, Method, Setting, run_trial, train_first
from tasks.compute.cluster import gpus_of_cluster, run_tasks
from tasks.evaluate import labels_of, tally
from tasks.images.disk_cache import map_pixels
from tasks.progress import progress
from tasks.refs import BackboneRef, PoolRef, Ref
from tasks.specs import CoftSpec, InputError, SimulationSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, local_copy, read_json, write_bytes, write_json
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.tracking.runs import Run, log_file, log_metrics

KIND = "simulations"
RESULTS = "results.json"
PAGE = "findings.html"
LABELS_ONLY = "labels only"
PROBE_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PROBE_HOLDOUT = 0.1
SHARE = 0.01  # of the pool that a round asks about (active paper, 4.1)


Work = tuple[Any, tuple[Any, ...]]  # a function, and what it is called with


@dataclass(frozen=True)
class TrialJob:
    """What a trial is told: what it is played on and how, where it begins, where its rows go."""

    start: StartRef
    pool: PoolRef
    backbone: str
    method: Method
    rounds: int
    max_pixels: int
    first_uri: str
    uri: str


class SimulationRef(Ref):
    """`results.json`: for each line of the plot, what each round of each seed measured."""


def check_simulation(spec: SimulationSpec) -> None:
    """Refuse, before any work, what cannot be simulated.

    Raises:
        InputError: a strategy is unknown, or the data set is not asked for its labels.
    """
    if spec.active.run.pool.labels is None:
        raise InputError(
            "A simulation answers its own questions: expected --labels folders, column or a file, "
            "got none."
        )
    for name in spec.strategies:
        try:
            find_strategy(name)
        except UnknownStrategy as error:
            raise InputError(f"--strategies: {error.args[0]}.") from error


def check_measurable(pool: PoolRef) -> None:
    """Refuse a data set that cannot tell how good a round is.

    Raises:
        InputError: there is no test split, or nothing has a label.
    """
    if not pool.labeled or not pool.num_test:
        raise InputError(
            "A simulation measures on images that it never asks about: expected labels and a test "
            f"split, got {pool.num_test} test images. Name some with --test, or mark rows of a "
            "Parquet file with split = test."
        )


@step("simulate rounds")
def simulate_rounds(
    start: StartRef,
    pool: PoolRef,
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
        spec.num_seeds,
        spec.rounds,
        spec.per_round,
        active.learner,
        active.query,
        active.run.seed,
        active.run.flip,
    )
    folder = join(runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        probe = join(runtime.workspace, KIND, "trials", f"probe-{start.digest}.json")
        jobs = _jobs(start, pool, backbone, spec)
        firsts: dict[str, Work] = {probe: (_probe, (start, pool, active.run.seed, probe))}
        firsts.update({job.first_uri: (_first, (job,)) for _, job in jobs})
        trials: dict[str, Work] = {job.uri: (_trial, (job,)) for _, job in jobs}
        missing = [
            [work for uri, work in stage.items() if not exists(uri)] for stage in (firsts, trials)
        ]
        with progress("Simulate", sum(map(len, missing)), unit="trials") as advance:
            gpus = 0.0 if active.learner.on_features else gpus_of_cluster(runtime)
            for stage in missing:
                for _ in run_tasks(_call, stage, runtime=runtime, num_gpus=min(1.0, gpus)):
                    advance(1)
        split = "test" if pool.num_test else "pool"
        before = tally(pool, labels_of(start.zero_shot.uri, "confidence"), split)
        levels = {
            "zero-shot": before and before["accuracy"],
            "CoFT without labels": coft_accuracy,
            "all labels, linear": read_json(probe)["accuracy"],
        }
        found: dict[str, Any] = {"levels": levels, "lines": {}}
        for name, job in jobs:
            line = found["lines"].setdefault(name, {})
            line[str(job.method.seed)] = read_json(job.uri)
        write_json(join(folder, RESULTS), found)
        return Outcome(parts=())

    manifest, resumed = once(folder, kind=KIND, digest=digest, label="Simulate", compute=compute)
    _publish(folder, active.run, run)
    return SimulationRef(uri=folder, digest=digest, seconds=manifest.seconds, resumed=resumed)


def read_findings(simulation: SimulationRef) -> tuple[dict[str, Any], list[str]]:
    """Return what a simulation found: as numbers, and in lines for a person."""
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


def _jobs(
    start: StartRef, pool: PoolRef, backbone: BackboneRef, spec: SimulationSpec
) -> list[tuple[str, TrialJob]]:
    """Return (line of the plot, trial), with files by what each is made from.

    More seeds or strategies leave finished trials finished. Trials of one seed share round 0: it
    has no answers, so its learner is the same in all.
    """
    folder = join(spec.active.run.runtime.workspace, KIND, "trials")
    found = []
    for name, method in _methods(spec, pool):
        learner = method.learner.model_copy(update={"pseudo_labels": True})
        first = fingerprint("first", start.digest, learner, method.seed, method.flip)
        made_from = (method.learner, method.query, method.seed, method.flip, spec.rounds)
        trial = fingerprint("trial", start.digest, *made_from)
        first_uri = join(folder, f"{first}.safetensors")
        uri = join(folder, f"{trial}.json")
        limit = spec.active.run.pool.max_pixels
        job = TrialJob(start, pool, backbone.name, method, spec.rounds, limit, first_uri, uri)
        found.append((name, job))
    return found


def _methods(spec: SimulationSpec, pool: PoolRef) -> list[tuple[str, Method]]:
    """Return (line of the plot, method) for every trial, the seeds of a line side by side."""
    active = spec.active
    per_round = spec.per_round or max(1, round(SHARE * pool.num_pool))
    query = active.query.model_copy(update={"per_round": per_round})
    random = query.model_copy(update={"strategy": "random"})
    plain = active.learner.model_copy(update={"pseudo_labels": False})
    lines = [
        (name, active.learner, query.model_copy(update={"strategy": name}))
        for name in spec.strategies
    ]
    if active.learner.believes:
        lines.append((f"random {LABELS_ONLY}", plain, random))
    seeds = range(active.run.seed, active.run.seed + spec.num_seeds)
    return [
        (name, Method(learner=learner, query=query, seed=seed, flip=active.run.flip))
        for seed in seeds
        for name, learner, query in lines
    ]


def _call(function: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)  # one trial a core; sums do not depend on the number of threads
    function(*arguments)


def _first(job: TrialJob) -> None:
    setting, _ = _setting(job)
    tensors = train_first(setting, job.method)
    write_bytes(job.first_uri, checkpoint.to_bytes(tensors, {}))


def _trial(job: TrialJob) -> None:
    setting, oracle = _setting(job)
    with local_copy(job.first_uri) as path:
        first, _ = checkpoint.read(str(path))
    write_json(job.uri, run_trial(setting, oracle, job.method, rounds=job.rounds, first=first))


def _setting(job: TrialJob) -> tuple[Setting, Oracle]:
    """Return what a trial is played on; a learner that works through the tower gets pixels."""
    learner, device = job.method.learner, "cuda" if torch.cuda.is_available() else "cpu"
    backbone = load_start(job.backbone, job.start, device=device)
    if learner.on_features:
        images, oracle = read_labelled(job.start.features, job.pool)
        return Setting(images, read_beginning(job.start), lambda: backbone), oracle

    def load_pixels(uris: list[str]) -> Tensor:
        return map_pixels(uris, backbone.visual.preprocess, max_pixels=job.max_pixels)

    def new_backbone() -> Backbone:
        return load_start(job.backbone, job.start, device=device)

    images, oracle = read_labelled(job.start.features, job.pool, load_pixels)
    return Setting(images, read_beginning(job.start), new_backbone), oracle


def _probe(start: StartRef, pool: PoolRef, seed: int, uri: str) -> None:
    """Fit a linear classifier to all labels of the pool: what the features can give at most.

    Its strength of regularisation is chosen on a tenth of the pool.
    """
    images, oracle = read_labelled(start.features, pool)
    write_json(uri, {"accuracy": _fully_labelled(images, oracle, seed)})


def _fully_labelled(images: Images, oracle: Oracle, seed: int) -> float:
    x = images.features.numpy()
    y = oracle.answer(range(len(x))).numpy()
    draws = torch.Generator().manual_seed(derive_seed(seed, "probe"))
    order = torch.randperm(len(x), generator=draws).numpy()
    held_out, rest = order[: int(PROBE_HOLDOUT * len(x))], order[int(PROBE_HOLDOUT * len(x)) :]

    def fit(rows: Any, strength: float) -> Any:
        return LogisticRegression(C=strength, max_iter=1000).fit(x[rows], y[rows])

    scores = {c: fit(rest, c).score(x[held_out], y[held_out]) for c in PROBE_STRENGTHS}
    best = max(scores, key=lambda strength: scores[strength])
    score: float = fit(order, best).score(images.test_features.numpy(), images.test_labels.numpy())
    return float(score)
