"""Weights in a folder: what is read, what is refused, and a clear word about what is missing."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clipcore import backbone
from clipcore.backbone_names import MissingWeights, UnsupportedBackbone
from tests.worlds.clip import local_dir


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth"])
def test_torch_files_of_plain_tensors_are_read(tmp_path: Path, tiny_clip: Path, name: str) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), folder / name)
    loaded = backbone.load(f"local-dir:{folder}")
    assert loaded.weights_sha256() == backbone.load(f"local-dir:{tiny_clip}").weights_sha256()


class Payload:
    """What a hostile file holds: unpickling it leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("protocol", ["torch", "bare pickle", "legacy torch"])
@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"])
def test_a_pickle_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, tiny_clip: Path, name: str, protocol: str
) -> None:
    folder, proof = local_dir(tmp_path, tiny_clip), tmp_path / "it-ran"
    state = {**load_file(tiny_clip / "open_clip_model.safetensors"), "payload": Payload(proof)}
    if protocol == "bare pickle":
        (folder / name).write_bytes(pickle.dumps(state))
    else:
        torch.save(state, folder / name, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))  # noqa: S301  # the payload works
    assert proof.exists()


BROKEN: dict[str, Callable[[Path], object]] = {
    "none": lambda file: file,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1000]),
    "folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_weights_that_cannot_be_read_are_named(
    tmp_path: Path, tiny_clip: Path, damage: str
) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    file = folder / "open_clip_model.safetensors"
    if damage != "none":
        shutil.copy(tiny_clip / file.name, file)
    BROKEN[damage](file)
    wrong = "found none; copy them" if damage == "none" else "cannot be loaded"
    with pytest.raises(MissingWeights, match=f"local-dir:{folder}.*{wrong}"):
        backbone.load(f"local-dir:{folder}")


def test_an_empty_torch_file_is_named(tmp_path: Path, tiny_clip: Path) -> None:
    folder = local_dir(tmp_path, tiny_clip)
    torch.save({}, folder / "model.pth")
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")


def test_weights_of_another_model_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    folder = local_dir(tmp_path, tiny_clip, embed_dim=16)
    shutil.copy(tiny_clip / "open_clip_model.safetensors", folder)
    with pytest.raises(MissingWeights, match="cannot be loaded"):
        backbone.load(f"local-dir:{folder}")


@pytest.mark.parametrize("text", ["{}", "[]", "not json", "", '{"model_cfg": {"embed_dim": 3}}'])
def test_a_broken_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(MissingWeights, match="configuration"):
        backbone.load(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local-dir:/nowhere/at/all", "the folder does not exist"),
        ("local-dir:{here}", "open_clip_config.json and weights; that file is missing"),
        ("hf-hub:nobody/nothing", "its configuration cannot be read"),
        ("ViT-B-16", "names no known weights; tags of ViT-B-16: openai"),
        ("ViT-B-16/laion", "names no known weights; tags of ViT-B-16: openai"),
        ("ViT-S-16/openai", "ViT-S-16 has no published tag"),
        ("ViT-B-16/openai", "HF_HUB_OFFLINE=1 forbids the download"),
    ],
)
def test_missing_weights_are_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=message):
        backbone.load(name.format(here=tmp_path))


@pytest.mark.parametrize("name", ["", "ResNet-50", "vit-b-16/openai", "embedded:none", "cat.jpg"])
def test_unknown_names_are_answered_with_known_ones(name: str) -> None:
    with pytest.raises(UnsupportedBackbone, match=r"unknown.*(ViT-B-16/openai|lite0-wordnet)"):
        backbone.load(name)
