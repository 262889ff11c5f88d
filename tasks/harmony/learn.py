"""A stage: one modality is learned on top of a state, by a worker, and written as a folder."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from clipcore.checkpoint import tensors_sha256
from clipcore.fit import TrainingDiverged
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.samples import Samples
from clipcore.harmony.stage import learn_stage
from clipcore.harmony.state import State, from_tensors, new_state, to_tensors, with_classes
from clipcore.harmony.stem import WIDTH, shared_stem
from clipcore.zero_shot import class_embeddings
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.harmony.record import KIND, StageRecord, StageRef, StateRef, stage_folder
from tasks.harmony.samples import Found
from tasks.harmony.specs import BeginSpec, StageSpec
from tasks.images.listing import one_line
from tasks.progress import say
from tasks.refs import BackboneRef
from tasks.specs import InputError
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.layout import WEIGHTS
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import redact

DIM_OF_LOOKS = 256  # numbers that the trunk sees where images come first


@dataclass(frozen=True)
class LearnJob:
    """What a worker needs to learn a modality.

    Attributes:
        folder: Where the state of after is written.
        last: Folder of the stage before; empty at the first one.
        samples: What is learned from.
        width: Numbers of each, if a tower of CLIP made them; then all looks have one stem.
        classes: All after this stage.
        backbone: Whose text tower knows the names.
        begin: What the first stage decided.
        spec: How it is learned.
    """

    folder: str
    last: str
    samples: Samples
    width: int | None
    classes: tuple[str, ...]
    backbone: BackboneRef
    begin: BeginSpec
    spec: StageSpec


@step("learn modality")
def learn_modality(
    found: Found,
    before: StateRef,
    classes: tuple[str, ...],
    backbone: BackboneRef,
    digest: str,
    spec: StageSpec,
) -> StageRef:
    """Learn a modality, or find that it was learned from the same samples in the same way.

    Only the samples of this modality are read. A stage that was interrupted has no manifest, and is
    learned again from the state before it.

    Args:
        found: The samples.
        before: What is known.
        classes: All class names, those of earlier stages first.
        backbone: Whose text tower knows them.
        digest: Of the stage.
        spec: How it is learned.

    Raises:
        InputError: the loss became infinite, or not a number.
    """
    begin = _begin(before, spec)
    folder = stage_folder(before, spec.modality)
    last = before.last.uri if before.last else ""
    samples = found.train(classes)
    width = found.survey.width if found.tower else None
    job = LearnJob(folder, last, samples, width, classes, backbone, begin, spec)

    def compute() -> Outcome:
        ((_, learned),) = run_tasks(learn_in_worker, [(job,)], runtime=spec.runtime)
        record = _record(found, before, job, cast("dict[str, Any]", learned))
        return Outcome(parts=(), facts=record.model_dump(mode="json"))

    manifest, resumed = once(
        folder, kind=KIND, digest=digest, label=f"Learn {spec.modality}", compute=compute
    )
    record = StageRecord.model_validate(manifest.facts)
    return StageRef(
        uri=folder,
        digest=digest,
        rows=record.num_train,
        seconds=manifest.seconds,
        resumed=resumed,
        record=record,
    )


def stage_digest(
    found: Found,
    before: StateRef,
    classes: tuple[str, ...],
    backbone: BackboneRef,
    spec: StageSpec,
) -> str:
    """Return the digest of all that a stage is made from."""
    return fingerprint(
        KIND,
        before.last.digest if before.last else None,
        (spec.modality, found.survey.content, classes),
        (backbone, _begin(before, spec), spec.training, spec.keep, spec.seed),
    )


def _begin(before: StateRef, spec: StageSpec) -> BeginSpec:
    return before.last.record.begin if before.last else spec.begin


def check_repeated(
    found: Found, before: StateRef, stage: StageRef | None, digest: str, uri: str
) -> None:
    """Refuse a modality that was learned from something else.

    Args:
        found: The samples of now.
        before: The state that they are to be learned on.
        stage: Which learned the modality; None for a new one.
        digest: Of the stage that is asked for.
        uri: Of the state.

    Raises:
        InputError: says in what they differ.
    """
    if stage is None or stage.digest == digest:
        return
    record = stage.record
    if record.width != found.survey.width:
        raise InputError(
            f"{record.modality} was learned from {record.width} features a sample, these have "
            f"{found.survey.width}; one modality has one encoder. Compute them with the same one, "
            "or give another name."
        )
    raise InputError(
        f"{record.modality} was learned already, as stage {len(before.stages) + 1} of "
        f"{redact(uri)}, from other samples or in another way, and a modality is learned once. "
        "Give this one another name, or begin another --state."
    )


def learn_in_worker(job: LearnJob) -> dict[str, Any]:
    """Learn a modality and write the state; return what the record says of it."""
    state = _state_before(job)
    spec, training = job.spec, job.spec.training
    try:
        after = learn_stage(
            state,
            spec.modality,
            job.samples,
            method=Harmony(**spec.keep.model_dump()),
            seed=spec.seed,
            freeze_trunk=training.freeze_trunk,
            stem=shared_stem(job.width, dim=state.dim) if job.width else None,
            steps=training.steps,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
        )
    except TrainingDiverged as error:
        raise InputError(f"{spec.modality}: {error}") from error
    tensors, header = to_tensors(after)
    write_tensors(job.folder, WEIGHTS, tensors, header)
    kept = after.modalities[spec.modality]
    seen = zip(after.classes, kept.inputs.count.tolist(), strict=True)
    return {
        "seen": {name: count for name, count in seen if count},
        "width": kept.stem.width,
        "anchors": tensors_sha256({"anchors": after.anchors})[:16],
        "memory_bytes": kept.num_bytes,
        "state_bytes": sum(one.nbytes for one in tensors.values()),
    }


def load_state(stage: str) -> State:
    """Return the state that a stage wrote, by its folder.

    Raises:
        InputError: its weights are broken.
    """
    try:
        return from_tensors(*read_tensors(stage))
    except (SafetensorError, KeyError) as error:
        raise InputError(
            f"{redact(stage)}: expected the weights of a stage ({one_line(error)}). Restore the "
            "folder, or remove it and those after it, and learn these stages again."
        ) from error


def _state_before(job: LearnJob) -> State:
    """Return the state of before with all class names."""
    state = load_state(job.last) if job.last else None
    known = () if state is None else state.classes
    new = job.classes[len(known) :]
    if state is not None and not new:
        return state
    anchors, scale = anchors_of(job.backbone.name, new, job.begin.template)
    if state is not None:
        return with_classes(state, new, anchors)
    seed, trunk = job.spec.seed, job.begin.trunk
    dim = job.begin.dim or (DIM_OF_LOOKS if job.width else WIDTH)
    return new_state(new, anchors, scale=scale, seed=seed, trunk=trunk, dim=dim)


def anchors_of(
    backbone: str, classes: tuple[str, ...], template: str
) -> tuple[Float[Tensor, "classes out"], float]:
    """Return the text embeddings of class names, L2-normalised, and CLIP's logit scale."""
    loaded = load_backbone(backbone)
    with torch.no_grad():
        return class_embeddings(loaded, classes, [template]), float(loaded.logit_scale)


def _record(found: Found, before: StateRef, job: LearnJob, learned: dict[str, Any]) -> StageRecord:
    spec, counted = job.spec, found.survey
    left_out = {"no label": counted.num_unlabelled, "other split": counted.num_other}
    say(f"{spec.modality} is learned: {len(learned['seen'])} of {len(job.classes)} classes seen")
    return StageRecord(
        number=len(before.stages) + 1,
        modality=spec.modality,
        kind="images" if found.look else "embeddings",
        origin=redact(spec.pool.images if spec.pool else str(spec.embeddings)),
        labels=spec.pool.labels if spec.pool else None,
        num_train=counted.num_train,
        num_test=counted.num_test,
        left_out={why: count for why, count in left_out.items() if count},
        classes=job.classes,
        backbone=job.backbone,
        tower=found.tower,
        begin=job.begin,
        training=spec.training,
        keep=spec.keep,
        seed=spec.seed,
        **learned,
    )
