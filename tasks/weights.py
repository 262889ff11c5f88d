"""Folders of learned weights, and the towers and networks that they make."""

from collections.abc import Sequence
from typing import Any

import torch

from clipcore import adapters, checkpoint
from clipcore.adapters import Adapter, AdapterName
from clipcore.backbone import VisualTower
from clipcore.backbone_names import Kind, UnsupportedBackbone
from clipcore.classifier import DESCRIPTION, load_classifier
from clipcore.coft.phase1 import Peer
from clipcore.network import Network, new_network
from clipcore.prompts import ContextTooLong, DualPrompts
from clipcore.seeding import generator
from tasks.backbone import load_backbone
from tasks.specs import InputError, LearnerSpec, Phase1Spec, Phase2Spec
from tasks.storage.files import exists, local_copy
from tasks.storage.uris import join

WEIGHTS = "weights.safetensors"


def new_peer(
    name: str, classes: tuple[str, ...], spec: Phase1Spec, *, seed: int, peer: int, device: str
) -> Peer:
    """Return an untrained peer; its seed and number alone decide how it starts."""
    loaded = load_backbone(name, device=device)
    draws = generator(seed, "phase1", peer)
    try:
        prompts = DualPrompts(
            loaded,
            classes,
            generator=draws,
            num_context_tokens=spec.num_context_tokens,
            memory_mb=spec.text_memory_mb,
        )
        adapter = adapters.attach(
            loaded.visual, generator=draws, **peer_adapter(spec, loaded.visual.kind)
        )
    except (ContextTooLong, UnsupportedBackbone) as error:
        raise InputError(str(error)) from error
    return Peer(loaded, prompts, adapter)


def load_visual(name: str, weights: Sequence[str], *, device: str) -> VisualTower:
    """Return the backbone's visual tower with what was learned on it, folder after folder.

    The folder of a classifier stands for the tower of its first network.
    """
    tower = load_backbone(name, device=device).visual
    for number, folder in enumerate(weights, 1):
        if exists(join(folder, DESCRIPTION)):
            tower = read_network(folder).visual.to(device)
            continue
        adapter = attach_learned(tower, folder)
        if number < len(weights):
            adapter.merge()
    return tower.eval()


def read_network(folder: str) -> Network:
    """Return the first network of a classifier's folder, on the CPU."""
    with local_copy(folder) as model:
        return load_classifier(model).members[0]


def read_class_embeddings(folder: str) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return a Phase I peer's positive and negative class embeddings and the logit scale."""
    with local_copy(join(folder, WEIGHTS)) as path:
        tensors, _ = checkpoint.read(str(path))
    return tensors["positive"], tensors["negative"], float(tensors["logit_scale"])


def start_network(name: str, peer: str, spec: Phase2Spec, *, device: str) -> Network:
    """Return the network that Phase II starts from, with a head from a peer's positive prompts.

    Its tower is the peer's own (`start="phase1"`: it predicts exactly as the peer did), or CLIP's
    with the original weights (`start="original"`, as the paper has it).
    """
    loaded = load_backbone(name, device=device)
    if spec.start == "phase1":
        attach_learned(loaded.visual, peer).merge()
    positive, _, scale = read_class_embeddings(peer)
    return new_network(loaded.visual, positive.to(device), scale)


def peer_adapter(spec: Phase1Spec, kind: Kind) -> dict[str, Any]:
    """Return what `adapters.attach` is told for a peer of Phase I.

    Raises:
        UnsupportedBackbone: the adapter needs another kind of tower.
    """
    name = adapters.resolve(kind, spec.adapter)
    return _arguments(name, spec.num_visual_prompts, spec.lora_rank)


def learner_adapter(spec: LearnerSpec, kind: Kind) -> dict[str, Any]:
    """Return what `adapters.attach` is told for a round's learner that works through the tower.

    Raises:
        UnsupportedBackbone: the learner needs another kind of tower.
    """
    if spec.kind == "maple":
        name = adapters.resolve(kind, "vpt")
        return {**_arguments(name, spec.coupled_tokens, 0), "depth": spec.coupled_depth}
    name = adapters.resolve(kind, "vpt" if spec.kind == "vpt" else spec.adapter)
    return _arguments(name, spec.num_visual_prompts, spec.lora_rank)


def _arguments(name: AdapterName, num_visual_prompts: int, lora_rank: int) -> dict[str, Any]:
    if name == "vpt":
        return {"name": name, "num_visual_prompts": num_visual_prompts}
    return {"name": name, "lora_rank": lora_rank} if name == "lora" else {"name": name}


def served_adapters(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the adapters that a served tower has on it; LoRA is merged into the weights."""
    return [] if arguments["name"] == "lora" else [arguments]


def attach_learned(tower: VisualTower, folder: str) -> Adapter:
    """Put what a folder of weights holds for the visual tower on it."""
    with local_copy(join(folder, WEIGHTS)) as path:
        tensors, header = checkpoint.read(str(path))
    adapter = adapters.attach(tower, generator=torch.Generator(), **header["attach"])
    adapter.restore(checkpoint.under("adapter", tensors))
    return adapter
