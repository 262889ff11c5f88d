"""A model by another method than CoFT: its linear head on the tower, as it is or as it tuned it."""

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.baselines.distil import distilled
from clipcore.baselines.evidence import Evidence, Scores
from clipcore.baselines.method_names import TOWER_NAMES
from clipcore.baselines.methods import LABELLED_METHODS, METHODS
from clipcore.energy import energies, quantiles
from clipcore.head import Head
from clipcore.network import Network, new_network
from tasks.backbone import load_backbone
from tasks.classifier import model_once, save_model
from tasks.compute.calls import device_of, run_tasks
from tasks.features.image_pixels import Reading, pixels_behind
from tasks.features.in_memory import read_all
from tasks.label.people import answers_about
from tasks.progress import say
from tasks.refs import AnswersRef, BackboneRef, EmbeddingsRef, ImagesRef, ModelRef, TaskRef
from tasks.sentences.embedded import TextRef, read_sentences
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION, ENERGIES, TOWERS, Folder
from tasks.storage.stage import step
from tasks.storage.uris import join
from tasks.weights import tower_digest


@step("fit baseline")
def fit_baseline(  # noqa: PLR0913, PLR0917  # what a method looks at
    text: TextRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    answers: AnswersRef | None,
) -> ModelRef:
    """Run the method on the pool, and write what it came to as a classifier.

    A method whose classifier is not linear is distilled into a head that is. One that tunes the
    tower is served with it; its training is not resumed, but begins again.

    Args:
        text: The sentences of the classes as CLIP sees them.
        embeddings: The images as its tower sees them.
        images: Which they are; test images are not looked at.
        task: The classes.
        backbone: Whose tower is served.
        spec: Names the method and the seed.
        answers: What people said of images, for a method that learns from it.
    """
    asked = "" if answers is None else answers.digest
    about = (text.digest, embeddings.digest, images.digest, task.classes, asked)
    tunes = spec.method in TOWER_NAMES
    views = [spec.flip] if tunes else []
    digest = fingerprint(Folder.MODELS, "baseline", spec.method, spec.seed, *about, *views)
    device = device_of(spec.runtime) if tunes else "cpu"

    def write(folder: str) -> dict[str, Any]:
        item = (folder, text, embeddings, images, task, backbone, spec, answers, device)
        list(run_tasks(_write, [item], runtime=spec.runtime))
        facts: dict[str, Any] = read_json(join(folder, DESCRIPTION))["facts"]
        if facts["distilled"] is not None:
            say(f"{spec.method}: served by a linear head that agrees on {facts['distilled']:.1%}")
        return facts

    return model_once(spec.runtime, digest, write)


def _write(  # noqa: PLR0913, PLR0917  # what the step gives to a worker
    folder: str,
    text: TextRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    answers: AnswersRef | None,
    device: str,
) -> None:
    method, seed = spec.method, spec.seed
    loaded = load_backbone(backbone.name, device=device)
    ids, is_test, features = read_all(images, embeddings)
    sentences, logit_scale = read_sentences(text)
    pool = torch.from_numpy(~is_test)
    evidence = Evidence(
        pool=features[pool],
        test=features[:0],
        sentences=sentences,
        logit_scale=logit_scale,
        classes=task.classes,
        load_backbone=lambda: loaded,
        load_pixels=pixels_behind(
            images,
            ids.filter(pa.array(~is_test)),
            ids.slice(0, 0),
            Reading.of(spec),
            lambda: loaded.visual.preprocess,
            device=device,
        ),
    )
    if method in METHODS:
        scores = METHODS[method](evidence, seed)
    else:
        told = answers_about(ids, answers, task.classes).labels[pool]
        scores = LABELLED_METHODS[method](evidence, told, seed)
    if scores.tuned is not None:
        facts = _facts(method, scores.tuned.logits, None)
        save_model(folder, [scores.tuned.state], task, loaded, facts, scores.tuned.attached)
        return
    head, agreement = _linear(scores, evidence)
    facts = _facts(method, head.logits(evidence.pool), agreement)
    facts[TOWERS] = [tower_digest(backbone)]
    save_model(folder, [_network(head, loaded).state_dict()], task, loaded, facts, ())


def _facts(method: str, logits: Tensor, agreement: float | None) -> dict[str, Any]:
    """Return what is told of a model: what it says of the pool, how far a head was distilled."""
    return {"method": method, "distilled": agreement, ENERGIES: quantiles(energies(logits[None]))}


def _linear(scores: Scores, evidence: Evidence) -> tuple[Head, float | None]:
    """Return a linear head, and on what share of the pool one that was distilled agrees."""
    if scores.head is not None:
        return scores.head, None
    head = distilled(evidence.pool, scores.pool, evidence.zero_shot)
    same = head.predict(evidence.pool)[0] == scores.pool.argmax(dim=1)
    return head, float(same.float().mean())


def _network(head: Head, loaded: Backbone) -> Network:
    network = new_network(loaded.visual, head.embeddings, head.logit_scale)
    if head.bias is not None:
        with torch.no_grad():
            network.head.bias.copy_(head.bias)
    return network
