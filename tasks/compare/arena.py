"""Every method with every seed at every balance that is not finished, then one table of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipcore.baselines.method_names import LABELLED_NAMES, TOWER_NAMES
from tasks.compare.cells import Cell, Sources, run_cell
from tasks.compare.measure import Row, measure_cell, measure_whole
from tasks.compare.page import page_of
from tasks.compare.results import Comparison, compared, markdown_of
from tasks.compare.specs import FLOWS, CompareSpec, Whole
from tasks.compute.calls import run_tasks
from tasks.compute.map_parts import write_missing
from tasks.progress import say
from tasks.refs import Ref, RunSummary
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json, write_bytes, write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import step
from tasks.storage.uris import join
from tasks.tracking.runs import Run, log_child, log_file, log_metrics

KIND = Folder.COMPARISONS
CELLS = "cells"
RESULTS, TABLE, PAGE = "comparison.json", "comparison.md", "comparison.html"


class ComparisonRef(Ref):
    """`comparison.json`, the same as a Markdown table, and as a page."""


@step("compare methods")
def compare_methods(
    sources: Sources, spec: CompareSpec, run: Run, whole: Sequence[tuple[Whole, RunSummary | str]]
) -> ComparisonRef:
    """Run every cell that is not finished, measure all, and write the table and the page.

    Args:
        sources: The images, their features, shared by all methods, the classes and the labels that
            measure.
        spec: Methods, seeds and balances.
        run: The open MLflow run.
        whole: Of methods that are flows of their own, what came of each run, or why it failed.
    """
    cells = cells_of_spec(spec, sources)
    write_missing(
        run_cell,
        {cell.uri: (cell,) for cell in cells},
        spec.runtime,
        label="Compare",
        total=len(cells),
        unit="runs",
        single_threaded=True,
    )
    found = run_tasks(measure_cell, [(cell,) for cell in cells], runtime=spec.runtime)
    rows = [row for _, row in sorted(found, key=lambda one: one[0])]
    rows += [_failed(one, why) for one, why in whole if isinstance(why, str)]
    ended = [(one, came, sources.task) for one, came in whole if not isinstance(came, str)]
    rows += [row for _, row in run_tasks(measure_whole, ended, runtime=spec.runtime)]
    comparison = Comparison(
        origin=Path(spec.run.pool.images).name,
        backbone=sources.backbone.name,
        command=spec.run.command,
        seeds=spec.seeds,
        shots=spec.shots if set(spec.methods) & set(LABELLED_NAMES) else 0,
        results=compared(rows),
    )
    ran = [(one[:3], came if isinstance(came, str) else came.predictions) for one, came in whole]
    digest = fingerprint(KIND, [cell.uri for cell in cells], ran)
    folder = in_workspace(spec.runtime.workspace, KIND, digest)
    _write(folder, comparison, rows)
    _record(run, folder, comparison)
    return ComparisonRef(uri=folder, digest=digest, rows=len(rows))


def cells_of_spec(spec: CompareSpec, sources: Sources) -> list[Cell]:
    """Return a cell for each method, seed and balance, with files by what each is made from.

    More seeds, methods or balances leave finished cells finished.
    """
    run, cells = spec.run, list[Cell]()
    for balance in spec.balance:
        for seed in range(run.seed, run.seed + spec.seeds):
            for method in spec.methods:
                if method in FLOWS:
                    continue
                shots = spec.shots if method in LABELLED_NAMES else 0
                about = [sources.embeddings.digest, sources.images.digest, sources.text.digest]
                labels = sources.task.digest if shots or balance != "as-is" else ""
                views = [run.flip] if method in TOWER_NAMES else []
                digest = fingerprint("cell", about, labels, method, seed, balance, shots, *views)
                place = in_workspace(run.runtime.workspace, KIND, CELLS, digest)
                cells.append(Cell(method, seed, balance, shots, sources, place))
    return cells


def read_comparison(ref: ComparisonRef) -> Comparison:
    """Return a comparison that was written."""
    return Comparison.model_validate(read_json(join(ref.uri, RESULTS))["comparison"])


def _failed(one: Whole, why: str) -> Row:
    return {"method": one.method, "seed": one.seed, "balance": one.balance, "failed": why}


def _write(folder: str, comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> None:
    values = {"comparison": comparison.model_dump(mode="json"), "cells": list(rows)}
    write_bytes(join(folder, TABLE), markdown_of(comparison).encode())
    write_bytes(join(folder, PAGE), page_of(comparison).encode())
    write_json(join(folder, RESULTS), values)
    say(f"Comparison: {join(folder, PAGE)}")


def _record(run: Run, folder: str, comparison: Comparison) -> None:
    """Record the accuracies, a child run for each method and balance, and the files."""
    for one in comparison.results:
        numbers = one.model_dump(exclude={"method", "balance", "failed"})
        log_metrics(run, {f"{one.balance}/{one.method}/accuracy": one.accuracy})
        log_child(
            run,
            f"{one.method} {one.balance}",
            {"method": one.method, "balance": one.balance},
            numbers,
        )
    for name in (RESULTS, TABLE, PAGE):
        log_file(run, join(folder, name), folder="comparison")
