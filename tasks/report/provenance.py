"""The sections on times, on files that were set aside, and on how to repeat the run."""

import platform
from collections import Counter
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from tasks.pages import numbers
from tasks.plan.words import rows_of
from tasks.refs import Ref
from tasks.report import read_stages, tables, words
from tasks.report.evidence import Evidence, Section
from tasks.report.inputs import ReportInputs
from tasks.storage.digests import code_version
from tasks.storage.files import exists, read_json
from tasks.storage.uris import join, redact

MAX_QUARANTINE_ROWS = 20
MAX_DUPLICATE_ROWS = 10
PACKAGES = ("torch", "open_clip_torch", "ray", "prefect", "mlflow", "pyarrow", "duckdb")


def times(evidence: Evidence) -> Section:
    """Return the time of each stage, the slowest one, and what makes it faster."""
    inputs = evidence.inputs
    slowest = tables.bottleneck(inputs.stages)
    fresh = [stage for stage in inputs.stages if not stage.resumed]
    spent = sum(stage.seconds for stage in fresh)
    return {
        "rows": tables.time_rows(inputs.stages),
        "total": sum(stage.seconds for stage in inputs.stages),
        "spent": spent,
        "num_resumed": len(inputs.stages) - len(fresh),
        "slowest": slowest,
        "slowest_share": slowest.seconds / (spent or slowest.seconds or 1) if slowest else 0,
        "slowest_rate": slowest.num_images / slowest.seconds
        if slowest and slowest.seconds and slowest.num_images
        else None,
        "advice": words.STAGES[slowest.name].advice if slowest else "",
        "gpu_hours": inputs.spec.runtime.num_gpus * spent / 3600,
    }


def quarantine(evidence: Evidence) -> Section:
    """Return the files that could not be used, and those that are copies of another."""
    inputs = evidence.inputs
    stages = (inputs.images, inputs.before)
    total = sum(stage.num_quarantined for stage in stages)
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for stage in stages if total else ():
        by_reason, first = read_stages.read_quarantine(stage, MAX_QUARANTINE_ROWS - len(rows))
        counts += by_reason
        rows += first
    return {
        "total": total,
        "counts": sorted(counts.items(), key=lambda item: (-item[1], item[0])),
        "rows": rows,
        "num_duplicates": inputs.images.num_duplicates,
        "duplicates": read_stages.first_duplicates(inputs.images, MAX_DUPLICATE_ROWS)
        if inputs.images.num_duplicates
        else [],
    }


def understood(evidence: Evidence) -> list[tuple[str, str]]:
    """Return what the run understood of its input before it worked: what about, and what."""
    plan = evidence.inputs.plan
    return [] if plan is None else list(rows_of(plan))


def provenance(evidence: Evidence) -> Section:
    """Return how to repeat the run: its command, versions, settings and files."""
    inputs = evidence.inputs
    spec, backbone = inputs.spec, inputs.backbone
    return {
        "command": redact(spec.command),
        "facts": [
            ("Run", inputs.run_id),
            ("Seed", str(spec.seed)),
            ("Method", spec.method),
            ("Images", redact(spec.pool.images)),
            ("Backbone", f"{backbone.name} ({backbone.kind}, {backbone.image_size} pixels)"),
            ("Backbone weights, sha256", backbone.weights_sha256),
            ("Preprocessing", backbone.preprocess_hash),
            ("QuickGELU", "yes" if backbone.quick_gelu else "no"),
            ("coft", code_version()),
            ("Python", platform.python_version()),
            *((name, _version(name)) for name in PACKAGES),
        ],
        "digests": [(name, ref.digest, redact(ref.uri)) for name, ref in _stages(inputs)],
        "settings": _changed(spec),
        "model_facts": _model_facts(inputs),
    }


def _stages(inputs: ReportInputs) -> list[tuple[str, Ref]]:
    peers = [(f"Phase {'I' * peer.phase}, peer {peer.peer}", peer) for peer in inputs.peers]
    refs = [
        ("Images", inputs.images),
        ("Classes and true labels", inputs.task),
        ("Embeddings before", inputs.before),
        ("Class sentences", inputs.sentences),
        ("Zero-shot labels", inputs.zero_shot),
        *((words.source(ref.source), ref) for ref in inputs.confident),
        *((words.source(ref.source), ref) for ref in inputs.neighbours),
        *((f"Clean labels, {ref.source}", ref) for ref in inputs.clean),
        *peers,
        ("Embeddings after", inputs.after),
        ("Model", inputs.model),
        ("Evaluation", inputs.evaluation),
    ]
    return [(name, ref) for name, ref in refs if ref is not None]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _changed(spec: BaseModel, prefix: str = "") -> list[tuple[str, str]]:
    """Return (name, value) of every setting that is not its default."""
    rows = []
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            rows += _changed(value, f"{prefix}{name}.")
        elif name != "command" and value != field.default:
            rows.append((prefix + name, redact(str(value))))
    return rows


def _model_facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    uri = join(inputs.model.uri, "model.json")
    facts = read_json(uri).get("facts", {}) if exists(uri) else {}
    return [
        (name.replace("_", " "), numbers.number(value) if isinstance(value, float) else str(value))
        for name, value in facts.items()
        if isinstance(value, str | int | float)
    ]
