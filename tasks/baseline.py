"""A model by another method than CoFT: its linear head on the tower as it is."""

from typing import Any

import torch

from clipcore.backbone import Backbone
from clipcore.baselines.distil import distilled
from clipcore.baselines.evidence import Evidence, Scores
from clipcore.baselines.methods import LABELLED_METHODS, METHODS
from clipcore.energy import energies, quantiles
from clipcore.head import Head
from clipcore.network import Network, new_network
from tasks.backbone import load_backbone
from tasks.classifier import model_once, save_model
from tasks.compute.calls import run_tasks
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
    """Run the method on the pool's features, and write what it came to as a classifier.

    A method whose classifier is not linear is distilled into a head that is.

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
    digest = fingerprint(Folder.MODELS, "baseline", spec.method, spec.seed, *about)

    def write(folder: str) -> dict[str, Any]:
        item = (folder, text, embeddings, images, task, backbone, spec.method, spec.seed, answers)
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
    method: str,
    seed: int,
    answers: AnswersRef | None,
) -> None:
    loaded = load_backbone(backbone.name)
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
    )
    if method in METHODS:
        scores = METHODS[method](evidence, seed)
    else:
        told = answers_about(ids, answers, task.classes).labels[pool]
        scores = LABELLED_METHODS[method](evidence, told, seed)
    head, agreement = _linear(scores, evidence)
    facts = {
        "method": method,
        "distilled": agreement,
        TOWERS: [tower_digest(backbone)],
        ENERGIES: quantiles(energies(head.logits(evidence.pool)[None])),
    }
    save_model(folder, [_network(head, loaded).state_dict()], task, loaded, facts, ())


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
