"""The sections on training: labels that were kept, curves of the losses, maps of the images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.pages import figures
from tasks.refs import PEERS
from tasks.report import gallery, projection, read_stages, tables, words
from tasks.report.evidence import Evidence, Section

MAX_PANELS = 24  # training curves of a phase

Points = Sequence[tuple[float, float]]


def kept(evidence: Evidence) -> Section:
    """Return which labels training used and which it left out, with examples."""
    inputs = evidence.inputs
    limit = inputs.spec.pool.max_pixels
    return {
        "reasons": tables.reason_rows(evidence.fates),
        "classes": sorted(evidence.kept.values(), key=lambda row: (row.share or 0.0, row.name))[
            : tables.MAX_ROWS
        ],
        "left_out": sum(peer.num_left_out for peer in inputs.peers),
        "none_kept": bool(evidence.kept) and not any(row.kept for row in evidence.kept.values()),
        "precision": [
            (source, precision)
            for source, precision in evidence.metrics.kept_label_precision.items()
            if precision is not None
        ],
        "confident": inputs.confident[0] if inputs.confident else None,
        "further_rounds": (len(inputs.confident) - 1) // len(PEERS),
        "answers": inputs.answers,
        "dense": gallery.per_strip(len(inputs.task.classes)) <= gallery.DENSE,
        "strips": gallery.clean_gallery(inputs, evidence.kept, max_pixels=limit)
        if inputs.clean
        else gallery.zero_shot_gallery(inputs, max_pixels=limit),
    }


def training(evidence: Evidence) -> Section:
    """Return a curve of every number that the peers measured after each epoch."""
    groups: dict[tuple[int, int], dict[str, dict[str, list[tuple[float, float]]]]] = {}
    rows = read_stages.read_histories(evidence.inputs.peers)
    facts = evidence.inputs.model.facts
    for row in rows:
        for key, value in row.items():
            if key in words.NOT_DRAWN or not _is_number(value):
                continue
            series = groups.setdefault(_training(row), {}).setdefault(key, {})
            series.setdefault(f"Peer {row['peer']}", []).append((row["epoch"], value))
    return {
        "phases": [(*one, _epochs(rows, one), _panels(groups[one])) for one in sorted(groups)],
        "end": facts.get("ends_in"),
        "candidates": facts.get("candidates") or [],
        "peers": list(
            zip(
                sorted({f"Peer {row['peer']}" for row in rows}),
                figures.PEER_COLOURS,
                figures.PEER_DASHES,
                strict=False,
            )
        ),
    }


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _training(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the phase and the round that an epoch is of."""
    return row["phase"], row.get("round", 0)


def _epochs(rows: Sequence[Mapping[str, object]], training: tuple[int, int]) -> int:
    return len({row["epoch"] for row in rows if _training(row) == training})


def _panels(
    quantities: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> list[tuple[str, str, str, str]]:
    """Return (name, meaning, figure, alternative text) of each quantity."""
    panels = []
    for key, series in list(quantities.items())[:MAX_PANELS]:
        by_peer = {name: sorted(series[name]) for name in sorted(series)}
        ends = "; ".join(
            f"{name}: {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in by_peer.items()
        )
        quantity = words.epoch_quantity(key)
        panels.append((quantity.name, quantity.meaning, figures.curve(_from_one(by_peer)), ends))
    return panels


def _from_one(
    series: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, list[tuple[float, float]]]:
    # Epochs are counted from 0 in files and from 1 by people.
    shift = 1 if min(x for points in series.values() for x, _ in points) == 0 else 0
    return {name: [(x + shift, y) for x, y in points] for name, points in series.items()}


def maps(evidence: Evidence) -> Section:
    """Return a sample of the images laid out on a plane, before and after."""
    inputs = evidence.inputs
    sample = read_stages.sample_embeddings(inputs.images, inputs.before, projection.MAX_IMAGES)
    labels = read_stages.labels_of(inputs.zero_shot, sample.image_ids)
    predicted = read_stages.labels_of(inputs.predictions, sample.image_ids)
    views = [("Before: zero-shot", sample, labels)]
    if evidence.adapted and inputs.after is not None:
        later = read_stages.sample_embeddings(inputs.images, inputs.after, projection.MAX_IMAGES)
        views.append(("After: adapted", later, predicted))
    shown = _most_common(predicted or labels, inputs.task.classes)
    drawn = [_map(*view, shown, seed=inputs.spec.seed) for view in views]
    return {
        "maps": [item for item in drawn if item],
        "num_shown": len(shown),
        "all_shown": len(shown) == len(inputs.task.classes),
        "moves": tables.moves(labels, predicted) if evidence.adapted else [],
        "moved": _moved(labels, predicted),
    }


def _most_common(labels: Mapping[str, str], names: Sequence[str]) -> list[str]:
    counts = dict.fromkeys(names, 0)
    for name in labels.values():
        counts[name] = counts.get(name, 0) + 1
    ranked = sorted(counts, key=lambda name: (-counts[name], name))[: len(figures.CLASS_COLOURS)]
    return [name for name in names if name in ranked]


def _map(
    title: str,
    sample: read_stages.Sample,
    labels: Mapping[str, str],
    shown: Sequence[str],
    *,
    seed: int,
) -> Section | None:
    labelled = [i for i, image_id in enumerate(sample.image_ids) if image_id in labels]
    if not labelled:
        return None
    vectors, names = sample.vectors[labelled], [labels[sample.image_ids[i]] for i in labelled]
    points, method = projection.project(vectors, seed=seed)
    return {
        "title": title,
        "figure": figures.cloud(points, names, shown),
        "method": method,
        "count": len(labelled),
        "agreement": projection.neighbour_agreement(vectors, names),
    }


def _moved(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[int, int] | None:
    """Return (changed, compared) of a sample, None when there is nothing to compare."""
    both = [image_id for image_id in before if image_id in after]
    changed = sum(before[image_id] != after[image_id] for image_id in both)
    return (changed, len(both)) if both else None
