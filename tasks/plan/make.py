"""Make the plan of a run: what it is about, where it goes, and what is there already.

Files are listed and not opened, but for the footers of Parquet files and for labels. No library of
seconds is loaded.
"""

import os
from collections import Counter
from pathlib import Path

from infra import prefect_server
from infra.settings import Settings
from tasks.answers.record import FOLDER
from tasks.backbone import look_up
from tasks.compute.placement import Node, share_of
from tasks.images.suffixes import package_for
from tasks.plan.facts import Aim, BackboneFound, ImagesFound, Place, Plan, Results, classes_found
from tasks.plan.reuse import digest_of_run, find_reused
from tasks.plan.words import lines_of
from tasks.pool import listed
from tasks.pool.entries import SPLITS
from tasks.pool.label_counts import count_answers
from tasks.pool.splits import held_out_by_suffix
from tasks.pool.understood import Understood
from tasks.progress import say
from tasks.sentences.checks import check_sentences
from tasks.specs import CoftSpec, RuntimeSpec
from tasks.storage.files import names_in
from tasks.storage.finished_runs import note_steps
from tasks.storage.layout import Folder
from tasks.storage.uris import absolute, join, redact
from tasks.tracking.registry_model import check_kind
from tasks.tracking.store import tracking_for

_DEVICES = "nvidia[0-9]*"  # in /dev, one for each GPU


def make_plan(
    spec: CoftSpec, aim: Aim, *, hand_over: bool = False, model: str | None = None
) -> Plan:
    """Return what a run understood, before it works.

    Args:
        spec: What was asked for.
        aim: What is to come of it.
        hand_over: Keep the listing for a run that begins in this process now.
        model: The model that predicts, in place of the backbone: of the registry, or a folder.

    Raises:
        InputError: anything that has to be corrected: images, classes, labels, backbone, model.
    """
    for_training = aim in ("adapt", "describe", "rounds", "templates")
    found = listed.understand(spec.pool, for_training=for_training)
    model = check_kind(model, spec.runtime) if model else None
    answers = None  # those in a folder of rounds were counted when they came
    if spec.answers is not None and not names_in(join(spec.answers, FOLDER)):
        answers = count_answers(spec.answers, spec.pool, found)
    check_sentences(spec, found.classes.names)
    backbone = None if model else _backbone(spec.backbone.name)
    digest = digest_of_run(spec, aim, found, model)
    if hand_over:
        listed.hand_over(spec.pool, found, for_training=for_training)
    return Plan(
        digest=digest,
        images=_images(found),
        classes=classes_found(found.classes),
        labels=found.labels,
        answers=answers,
        backbone=backbone,
        student=None if spec.student is None else _backbone(spec.student.name),
        model=model,
        place=_place(spec.runtime),
        results=_results(spec, aim),
        reused=find_reused(spec, found, digest, backbone.name if backbone else None),
    )


def follow(plan: Plan | None, spec: CoftSpec, aim: Aim, *, model: str | None = None) -> Plan:
    """Return the plan of the run that is on, made and told now unless its command has done so.

    From here on the finished steps of the run are noted under it.

    Args:
        plan: What the command has made and told.
        spec: What was asked for.
        aim: What is to come of it.
        model: The model that predicts, in place of the backbone.
    """
    if plan is None:
        plan = make_plan(spec, aim, hand_over=True, model=model)
        for line in lines_of(plan):
            say(line)
    note_steps(spec.runtime.workspace, plan.digest)
    return plan


def _images(found: Understood) -> ImagesFound:
    skipped = Counter[str]()
    for source in found.sources:
        skipped.update(source.skipped)
    readers = {suffix: package for suffix in skipped if (package := package_for(suffix))}
    return ImagesFound(
        by_split=_by_split(found),
        num_tables=sum(len(source.tables()) for source in found.sources),
        split_folders=found.split_folders,
        skipped=dict(skipped),
        readers=readers,
        num_links=sum(source.num_skipped for source in found.sources),
    )


def _by_split(found: Understood) -> dict[str, dict[str, int]]:
    """Count images by split and extension; the rows of Parquet files have that of their file."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for source, split in zip(found.sources, SPLITS, strict=False):
        rows = source.suffixes if source.kind == "images" else {".parquet": source.num_images}
        counts[split].update(rows)
        if split == "pool":
            held_out = Counter({".parquet": source.num_test} if source.kind == "tables" else {})
            if found.split_folders:
                held_out += held_out_by_suffix(source)
            counts["pool"] -= held_out
            counts["test"] += held_out
    positive = {split: dict(+counter) for split, counter in counts.items()}
    return {split: counter for split, counter in positive.items() if counter}


def _backbone(name: str) -> BackboneFound:
    config, kind = look_up(name)
    size = config["vision_cfg"].get("image_size", 224)
    return BackboneFound(
        name=name,
        kind=kind,
        image_size=size if isinstance(size, int) else max(size),
        embed_dim=config["embed_dim"],
    )


def _place(runtime: RuntimeSpec) -> Place:
    named = None if prefect_server.is_own() else Settings().prefect_api_url
    prefect = redact(named) if named else None
    if runtime.ray_address not in (None, "", "local"):
        address = redact(str(runtime.ray_address))
        return Place(ray_address=address, num_workers=runtime.num_actors, prefect=prefect)
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    gpus = _num_gpus()
    default = share_of([Node(cores, gpus)], RuntimeSpec(workspace=runtime.workspace)).num_workers
    workers = runtime.num_actors or (None if runtime.num_gpus else default)
    workers = min(workers, cores) if workers and not gpus else workers
    return Place(num_cores=cores, num_gpus=gpus, num_workers=workers, prefect=prefect)


def _num_gpus() -> int:
    """Return how many GPUs of NVIDIA this process may see, without asking their driver."""
    number = len(list(Path("/dev").glob(_DEVICES)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return number
    names = [name.strip() for name in visible.split(",")]
    return min(number, sum(bool(name) and not name.startswith("-") for name in names))


def _results(spec: CoftSpec, aim: Aim) -> Results:
    workspace = spec.runtime.workspace
    tracking = tracking_for(workspace)
    return Results(
        workspace=redact(absolute(workspace)),
        is_new=names_in(absolute(workspace)) <= {Folder.DEMO},  # which waits for its first run
        register_as=spec.register_as,
        tracking=tracking.note if aim in ("adapt", "describe", "rounds") else None,
    )
