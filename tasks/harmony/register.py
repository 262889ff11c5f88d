"""A stage as a version in the model registry: the state, its towers, and how good it is."""

import tempfile
from pathlib import Path
from typing import Any

from clipcore.harmony.bundle import save_model
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.gate import Verdict
from tasks.harmony.learn import load_state
from tasks.harmony.record import StageRef, StateRef
from tasks.harmony.specs import StageSpec
from tasks.harmony.summary import Summary, summarize
from tasks.progress import say
from tasks.refs import BackboneRef, ModelKind, ModelRef
from tasks.specs import InputError
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run
from tasks.tracking.versions import KIND, MODALITIES


@step("register model")
def register_stage(run: Run, state: StateRef, spec: StageSpec) -> ModelRef | None:
    """Write the newest stage as a model, and register it with what was measured.

    Returns:
        The model; None where nobody wants one.
    """
    if spec.register_as is None:
        return None
    last, found = state.stages[-1], summarize(state)
    verdict = judge(found, len(state.classes), spec.max_forgetting)
    evidence = _evidence(last, found, verdict)
    digest = fingerprint(Folder.MODELS, KIND, last.digest, evidence)
    folder = in_workspace(spec.runtime.workspace, Folder.MODELS, digest)

    def compute() -> Outcome:
        list(run_tasks(write_model, [(folder, state.stages, evidence)], runtime=spec.runtime))
        return Outcome(parts=(), facts=evidence)

    manifest, resumed = once(
        folder, kind=Folder.MODELS, digest=digest, label="Model", compute=compute
    )
    registered = register_model(
        run, folder, name=spec.register_as, healthy=verdict.healthy, evidence=evidence
    )
    role = f", {', '.join(registered.aliases)}" if registered.aliases else ""
    say(f"Registered {registered.uri}{role}. {verdict.text}")
    return ModelRef(
        uri=folder,
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        facts={"model_uri": registered.uri},
        healthy=verdict.healthy,
        verdict=verdict.text,
    )


def judge(found: Summary, num_classes: int, max_forgetting: float) -> Verdict:
    """Return what speaks against the newest stage of a state; what was not measured does not.

    Args:
        found: The state.
        num_classes: Among which the state chooses.
        max_forgetting: That a candidate may have.
    """
    last, chance = found.modalities[-1], 1 / num_classes
    objections = []
    if last.own is not None and last.own < chance:
        objections.append(
            f"its accuracy on {last.modality} is {last.own:.3f}, and to guess would be {chance:.3f}"
        )
    if found.forgetting is not None and found.forgetting > max_forgetting:
        objections.append(
            f"earlier modalities lost {found.forgetting:.3f} of their accuracy, more than "
            f"{max_forgetting:g}"
        )
    return Verdict(tuple(objections))


def _evidence(last: StageRef, found: Summary, verdict: Verdict) -> dict[str, Any]:
    """Return what is told of a version; numbers that were not measured are left out."""
    known = [one for one in found.modalities if one.last is not None]
    measured = {"average": found.average, "forgetting": found.forgetting}
    return {
        KIND: ModelKind.HARMONY.value,
        "stage": last.record.number,
        MODALITIES: ", ".join(one.modality for one in found.modalities),
        "accuracy": ", ".join(f"{one.modality} {one.last:.3f}" for one in known) or "not measured",
        **{name: round(value, 4) for name, value in measured.items() if value is not None},
        "verdict": verdict.text,
    }


def write_model(folder: str, stages: tuple[StageRef, ...], facts: dict[str, Any]) -> None:
    """Write a state and each of its towers once to any URI; `model.json` is sent last.

    Raises:
        InputError: a backbone has other weights than when its images were learned.
    """
    towers = list(dict.fromkeys(one.record.tower for one in stages if one.record.tower))
    of_images = {
        one.record.modality: towers.index(one.record.tower) for one in stages if one.record.tower
    }
    loaded = [load_same(tower) for tower in towers]
    with tempfile.TemporaryDirectory(prefix="coft-model-") as temporary:
        save_model(Path(temporary), load_state(stages[-1].uri), loaded, of_images, facts)
        for path in sorted(Path(temporary).iterdir(), reverse=True):  # safetensors, then JSON
            write_bytes(join(folder, path.name), path.read_bytes())


def load_same(tower: BackboneRef) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return a tower of images, its configuration, and what identifies it."""
    found = load_backbone(tower.name)
    check_same(tower, found.weights_sha256())
    return found.visual, found.config, tower.model_dump(mode="json")


def check_same(tower: BackboneRef, weights_sha256: str) -> None:
    """Refuse a backbone that has changed since images were learned with it.

    Raises:
        InputError: names it.
    """
    if tower.weights_sha256 != weights_sha256:
        raise InputError(
            f"the backbone {tower.name} has other weights now ({weights_sha256[:12]}) than when "
            f"images were learned with it ({tower.weights_sha256[:12]}); bring these back."
        )
