"""A vision system as a version in the model registry, with the tower that it sees by."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clipcore.libra.bundle import save_model
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.describe.language import LanguageRef
from tasks.describe.measure import Measured
from tasks.describe.refs import CaptionsRef, VisionRef
from tasks.describe.specs import DescribeSpec
from tasks.describe.vision import load_vision
from tasks.features.towers import Tower
from tasks.gate import Verdict
from tasks.progress import say
from tasks.refs import ModelKind
from tasks.storage.digests import fingerprint
from tasks.storage.files import local_copy, open_write, read_json
from tasks.storage.layout import DESCRIPTION, Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run
from tasks.tracking.versions import KIND

LEAST_AGREEMENT = 0.5  # of captions and classifier: below it most of one of them are wrong


def judge(captions: CaptionsRef, measured: Measured | None) -> tuple[Verdict, dict[str, Any]]:
    """Return what speaks against captions, and what is told of them; no label is needed."""
    agreement = 1 - captions.num_differing / max(1, captions.rows)
    objections = []
    if agreement < LEAST_AGREEMENT:
        objections.append(
            f"captions and classifier name the same class of {agreement:.3f} of the images, less "
            f"than {LEAST_AGREEMENT:g}"
        )
    facts = {"agreement": round(agreement, 4), "num_images": captions.rows}
    if measured is not None:
        facts |= {
            "accuracy": measured.accuracy,
            "classifier_accuracy": measured.classifier_accuracy,
        }
    return Verdict(tuple(objections)), facts


@step("register captions")
def register_captions(  # noqa: PLR0913, PLR0917  # what a version is made from, and judged by
    run: Run,
    vision: VisionRef,
    captions: CaptionsRef,
    tower: Tower,
    language: LanguageRef,
    measured: Measured | None,
    spec: DescribeSpec,
) -> str | None:
    """Write what was learned as a model, and register it; return its URI in the registry.

    The language model is referred to by its hash, or copied where that is wanted.

    Returns:
        None where nobody wants a version.
    """
    if spec.register_as is None:
        return None
    verdict, facts = judge(captions, measured)
    told = {KIND: ModelKind.LIBRA.value, **facts, "llm": language.name}
    told |= {"llm_sha256": language.sha256, "llm_included": spec.include_llm}
    told |= {"verdict": verdict.text}
    digest = fingerprint(Folder.MODELS, KIND, vision.digest, told, spec.include_llm)
    folder = in_workspace(spec.runtime.workspace, Folder.MODELS, digest)

    def compute() -> Outcome:
        job = (folder, vision, tower, language, told, spec.include_llm)
        list(run_tasks(write_model, [job], runtime=spec.runtime))
        return Outcome(parts=(), facts=told)

    once(folder, kind=Folder.MODELS, digest=digest, label="Model", compute=compute)
    registered = register_model(
        run, folder, name=spec.register_as, healthy=verdict.healthy, evidence=told
    )
    role = f", {', '.join(registered.aliases)}" if registered.aliases else ""
    say(f"Registered {registered.uri}{role}. {verdict.text}")
    return registered.uri


def write_model(
    folder: str,
    vision: VisionRef,
    tower: Tower,
    language: LanguageRef,
    facts: dict[str, Any],
    include: bool,  # noqa: FBT001  # one of a worker's arguments
) -> None:
    """Write a vision system and its tower once to any URI; `model.json` is sent last."""
    made = load_vision(vision, language)
    config, attached = _origin(tower)
    known = {"name": tower.name, "digest": tower.digest, **tower.facts}
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coft-model-")))
        save_model(
            temporary,
            made.model,
            classes=made.wording.classes,
            template=made.template,
            vocabulary=made.wording.vocabulary,
            tower=(tower.load("cpu"), config, known),
            language={"name": language.name, "sha256": language.sha256},
            facts=facts,
            attached=attached,
            include=stack.enter_context(local_copy(language.uri)) if include else None,
        )
        files = [path for path in temporary.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == DESCRIPTION):
            with path.open("rb") as source:
                target = join(folder, *path.relative_to(temporary).parts)
                with open_write(target) as written:
                    shutil.copyfileobj(source, written)


def _origin(tower: Tower) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return open_clip's configuration of a tower, and what is attached to it."""
    if not tower.model:
        return load_backbone(tower.backbone).config, []
    description = read_json(join(tower.model, DESCRIPTION))
    return description["config"], description["adapters"]
