"""Harmony beside other methods, where data may be kept: a call for each method and seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, pstdev

import torch
from pydantic import Field

from clipcore.harmony.comparison import METHODS, UnknownMethod, run_way, way_of
from clipcore.harmony.matrix import average_accuracy, forgetting, learned_accuracy
from tasks.compute.map_parts import write_missing
from tasks.harmony.learn import anchors_of
from tasks.harmony.rows import LabelledRows, Rows
from tasks.harmony.summary import as_text, known
from tasks.specs import InputError, RuntimeSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json, write_json
from tasks.storage.stage import step
from tasks.storage.uris import join


class Method(Spec):
    """What a method came to, over seeds and orders."""

    method: str
    keeps: str
    average: float | None = Field(description="Mean accuracy of all modalities after the last.")
    spread: float = Field(description="Standard deviation of it over seeds and orders.")
    forgetting: float | None
    own: float | None = Field(description="Mean accuracy right after each one's own stage.")
    guessed: float | None = Field(description="As `average`, where nobody says the modality.")
    modalities: dict[str, float | None] = Field(description="Accuracy after the last, each.")


class Comparison(Spec):
    """Methods on the same data, in the same orders."""

    origin: str
    order: tuple[str, ...]
    seeds: int
    orders: int
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Trial:
    """One method with one seed.

    Attributes:
        uri: Where what it came to is written.
        method: Its name.
        seed: Of every draw.
        data: Rows to learn from and rows to measure on, by modality, in order.
        backbone: Whose text tower knows the class names.
        template: Sentence of a class name.
    """

    uri: str
    method: str
    seed: int
    data: Mapping[str, tuple[LabelledRows, LabelledRows]]
    backbone: str
    template: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names."""
        return next(iter(self.data.values()))[0].classes


@step("compare methods")
def compare(  # noqa: PLR0913  # the methods, the data, and what knows the classes
    folder: str,
    files: Sequence[str],
    order: Sequence[str],
    classes: Sequence[str],
    *,
    backbone: str,
    template: str,
    methods: Sequence[str],
    seeds: int,
    orders: int = 1,
    content: str,
    origin: str,
    runtime: RuntimeSpec,
) -> Comparison:
    """Run methods with seeds side by side, one on each core; finished ones are not run again.

    Args:
        folder: Where each trial is written.
        files: Parquet with features of all modalities.
        order: In which they come.
        classes: The class names.
        backbone: Whose text tower knows them.
        template: Sentence of a class name.
        methods: Names of `clipcore.harmony.comparison.METHODS`.
        seeds: How many, from 0.
        orders: How many: as given, then with the second modality first, and so on.
        content: Digest of the data.
        origin: The data, for people.
        runtime: Workspace and cluster.
    """
    check_methods(methods)
    about = (tuple(files), tuple(classes), backbone, template)
    trials = [
        _trial(folder, content, method, seed, (*order[first:], *order[:first]), *about)
        for seed in range(seeds)
        for first in range(min(orders, len(order)))
        for method in methods
    ]
    write_missing(
        _run,
        {trial.uri: (trial,) for trial in trials},
        runtime,
        label="Compare methods",
        total=len(trials),
        unit="trials",
        single_threaded=True,
    )
    found = tuple(
        _mean_of(method, [read_json(one.uri) for one in trials if one.method == method], order)
        for method in methods
    )
    ran = min(orders, len(order))
    return Comparison(origin=origin, order=tuple(order), seeds=seeds, orders=ran, methods=found)


def _trial(  # noqa: PLR0913, PLR0917  # what tells one from another
    folder: str,
    content: str,
    method: str,
    seed: int,
    order: tuple[str, ...],
    files: tuple[str, ...],
    classes: tuple[str, ...],
    backbone: str,
    template: str,
) -> Trial:
    data = {name: _rows(files, name, classes) for name in order}
    digest = fingerprint("harmony trial", method, seed, order, classes, backbone, template, content)
    return Trial(join(folder, f"{digest}.json"), method, seed, data, backbone, template)


def _rows(
    files: tuple[str, ...], name: str, classes: tuple[str, ...]
) -> tuple[LabelledRows, LabelledRows]:
    train, test = Rows(files, name, "train"), Rows(files, name, "test")
    return LabelledRows(train, classes), LabelledRows(test, classes)


def check_methods(methods: Sequence[str]) -> None:
    """Refuse a name that no method has.

    Raises:
        InputError: names those that there are.
    """
    try:
        for name in methods:
            way_of(name)
    except UnknownMethod as error:
        raise InputError(f"--methods: {error}") from error


def lines_of(found: Comparison) -> list[str]:
    """Return a comparison as lines for a terminal."""
    width = max(len(one.method) for one in found.methods)
    head = "  ".join(name.rjust(max(7, len(name))) for name in found.order)
    lines = [f"{'method'.ljust(width)}  after all      forgotten  {head}  keeps"]
    for one in found.methods:
        cells = "  ".join(
            as_text(one.modalities[name]).rjust(max(7, len(name))) for name in found.order
        )
        spread = f" ± {one.spread:.3f}" if found.seeds * found.orders > 1 else ""
        average = f"{as_text(one.average)}{spread}".ljust(13)
        lines.append(
            f"{one.method.ljust(width)}  {average}  {as_text(one.forgetting):>9}  {cells}  "
            f"{one.keeps}"
        )
    return [*lines, *advice(found)]


def advice(found: Comparison) -> list[str]:
    """Say what keeping the earlier data would be worth, where that was measured."""
    by_name = {one.method: one.average for one in found.methods}
    own = by_name.get("harmony")
    free = [
        (average, name)
        for name, average in by_name.items()
        if METHODS[name].learns != "in turn" and average is not None
    ]
    if own is None or not free:
        return []
    best, name = max(free)
    if best <= own:
        return [f"Keeping the earlier data would gain nothing here: {name} has {best:.3f}."]
    return [
        f"If the earlier data may be kept, {name} is better here: by {best - own:.3f}, "
        f"{best:.3f} against {own:.3f}."
    ]


def _run(trial: Trial) -> int:
    """Run and write one trial."""
    torch.set_num_threads(1)
    anchors, scale = _anchors(trial.backbone, trial.classes, trial.template)
    outcome = run_way(
        way_of(trial.method),
        trial.data,
        tuple(trial.data),
        trial.classes,
        anchors,
        scale=scale,
        seed=trial.seed,
    )
    matrix = [[known(value) for value in row] for row in outcome.matrix]
    routed = [known(value) for value in outcome.routed]
    made = {"order": list(trial.data), "matrix": matrix, "routed": routed}
    write_json(trial.uri, {**made, "seconds": outcome.seconds})
    return 1


_anchors = lru_cache(maxsize=1)(anchors_of)  # trials of one process have the same


def _mean_of(method: str, trials: Sequence[Mapping[str, list]], order: Sequence[str]) -> Method:  # type: ignore[type-arg]
    matrices = [
        [[math.nan if value is None else value for value in row] for row in one["matrix"]]
        for one in trials
    ]
    averages = [value for one in matrices if (value := average_accuracy(one)) is not None]
    return Method(
        method=method,
        keeps=METHODS[method].keeps,
        average=_mean(averages),
        spread=pstdev(averages) if averages else 0.0,
        forgetting=_mean([forgetting(one) for one in matrices]),
        own=_mean([learned_accuracy(one) for one in matrices]),
        guessed=_mean([value for one in trials for value in one["routed"]]),
        modalities={
            name: _mean([one["matrix"][-1][one["order"].index(name)] for one in trials])
            for name in order
        },
    )


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None
