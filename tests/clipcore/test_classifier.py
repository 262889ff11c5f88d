"""The served classifier: written, read back bit for bit, and no code in its files."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clipcore import adapters
from clipcore.backbone import Backbone
from clipcore.backbone_names import AdapterName
from clipcore.classifier import (
    load_classifier,
    load_heads,
    save_classifier,
)
from clipcore.description import DESCRIPTION, BrokenModel
from clipcore.image_files import BadImage
from clipcore.images import decode, resize_and_crop
from clipcore.network import Network, new_network
from clipcore.zero_shot import class_embeddings
from tests.worlds.images import encoded_image
from tests.worlds.tensors import draws, random_pixels

CLASSES = ["cat", "dog", "sea lion"]
Fresh = Callable[[str], Backbone]
SERVED = [
    ("vit", None),
    ("vit", "vpt"),
    ("vit", "lora"),
    ("vit", "bottleneck"),
    ("timm", None),
    ("timm", "bottleneck"),
]


def network(clip: Backbone, name: AdapterName | None, seed: int) -> Network:
    """Return a network whose every parameter has moved away from CLIP."""
    if name:
        adapter = adapters.attach(clip.visual, name, generator=draws(seed), num_visual_prompts=3)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws(seed)))
        adapter.merge()
    embeddings = class_embeddings(clip, CLASSES, ["a photo of a {}."])
    made = new_network(clip.visual, embeddings, clip.logit_scale).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=draws(seed + 10)))
    return made


def save(folder: Path, clip: Backbone, members: list[Network], **options: Any) -> None:
    save_classifier(
        folder,
        [member.state_dict() for member in members],
        classes=CLASSES,
        config=clip.config,
        preprocess=clip.visual.preprocess,
        facts={"epoch": 3, "alpha": 0.5},
        **options,
    )


def saved(folder: Path, fresh: Fresh, kind: str, name: AdapterName | None) -> list[Network]:
    members = [network(fresh(kind), name, seed) for seed in (1, 2)]
    attached = [] if name in (None, "lora") else [{"name": name, "num_visual_prompts": 3}]
    save(folder, fresh(kind), members, attached=attached)
    return members


def mean_softmax(members: list[Network], pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return sum(member(pixels).softmax(1) for member in members) / len(members)  # type: ignore[return-value]


@pytest.fixture
def folder(tmp_path: Path, fresh: Fresh) -> Path:
    """Return a saved classifier of two plain ViTs."""
    saved(tmp_path / "model", fresh, "vit", None)
    return tmp_path / "model"


# --- round trip -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), SERVED)
def test_what_is_read_back_is_what_was_written(
    kind: str, name: AdapterName | None, fresh: Fresh, tmp_path: Path
) -> None:
    members = saved(tmp_path, fresh, kind, name)
    classifier = load_classifier(tmp_path)
    assert classifier.classes == tuple(CLASSES)
    assert classifier.facts == {"epoch": 3, "alpha": 0.5}
    assert classifier.preprocess == members[0].visual.preprocess
    pixels = random_pixels(4, classifier.preprocess.size)
    for member, loaded in zip(members, classifier.members, strict=True):
        state = loaded.state_dict()
        assert state.keys() == member.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in member.state_dict().items())
        with torch.no_grad():
            assert torch.equal(loaded(pixels), member(pixels))
    assert not any(
        module.training or parameter.requires_grad
        for loaded in classifier.members
        for module in loaded.modules()
        for parameter in module.parameters(recurse=False)
    )


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_probabilities_are_the_mean_softmax(kind: str, fresh: Fresh, tmp_path: Path) -> None:
    members = saved(tmp_path, fresh, kind, None)
    classifier = load_classifier(tmp_path)
    pixels = random_pixels(5, classifier.preprocess.size)
    found = classifier.probabilities(pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    expected = mean_softmax(members, pixels)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)  # bf16 where it is fast
    features, each = classifier.predict_members(pixels)
    torch.testing.assert_close(each.mean(0), found)
    with torch.no_grad():
        torch.testing.assert_close(features, members[0].visual(pixels), atol=0.02, rtol=0)


def test_one_member_is_enough(fresh: Fresh, tmp_path: Path) -> None:
    member = network(fresh("vit"), None, 1)
    save(tmp_path, fresh("vit"), [member])
    classifier = load_classifier(tmp_path)
    pixels = random_pixels(2, 32)
    torch.testing.assert_close(
        classifier.probabilities(pixels), mean_softmax([member], pixels), atol=0.02, rtol=0
    )


# --- image files ----------------------------------------------------------------------------------


def test_image_files_are_decoded_fitted_and_classified(folder: Path) -> None:
    classifier = load_classifier(folder)
    files = [encoded_image(0, (40, 50)), encoded_image(1, (64, 32)), encoded_image(2, (32, 32))]
    pixels = [
        resize_and_crop(decode(data, max_pixels=10**6), classifier.preprocess) for data in files
    ]
    expected = classifier.probabilities(torch.from_numpy(np.stack(pixels)))
    found = classifier.predict_bytes(files)
    assert found.shape == (3, 3)
    np.testing.assert_array_equal(found, expected.numpy())


def test_a_bad_image_is_named(folder: Path) -> None:
    classifier = load_classifier(folder)
    with pytest.raises(BadImage, match="not-an-image"):
        classifier.predict_bytes([encoded_image(0, (40, 40)), b"not an image"])
    with pytest.raises(BadImage, match="too-many-pixels"):
        classifier.predict_bytes([encoded_image(0, (40, 40))], max_pixels=1599)


# --- the files ------------------------------------------------------------------------------------


def test_files_are_json_and_numbers(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["member-1.safetensors", "member-2.safetensors", DESCRIPTION]
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        tensors = json.loads(data[8 : 8 + length])
        assert len(data) == 8 + length + max(entry["data_offsets"][1] for entry in tensors.values())
    assert json.loads((folder / DESCRIPTION).read_text())["classes"] == CLASSES


def test_reading_unpickles_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load_classifier(folder)


def test_saving_again_gives_the_same_bytes(folder: Path, fresh: Fresh, tmp_path: Path) -> None:
    saved(tmp_path / "again", fresh, "vit", None)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_tensors_that_share_memory_or_are_not_contiguous_are_saved(
    fresh: Fresh, tmp_path: Path
) -> None:
    member = network(fresh("timm"), None, 1)  # channels last: no weight of it is contiguous
    save(tmp_path, fresh("timm"), [member, member])
    one, two = load_classifier(tmp_path).members
    pixels = random_pixels(2, 64)
    with torch.no_grad():
        assert torch.equal(one(pixels), two(pixels))


# --- broken folders -------------------------------------------------------------------------------


def rewrite(folder: Path, **change: object) -> None:
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda f: (f / DESCRIPTION).unlink(), "model.json is missing"),
    "cut description": (lambda f: cut(f / DESCRIPTION), "expected a JSON object"),
    "other description": (lambda f: (f / DESCRIPTION).write_text("[1]"), "expected a JSON object"),
    "no format": (lambda f: (f / DESCRIPTION).write_text("{}"), "model format 1, got None"),
    "other format": (lambda f: rewrite(f, format=2), "expected model format 1, got 2.*version"),
    "missing member": (lambda f: (f / "member-2.safetensors").unlink(), "Copy the whole folder"),
    "cut member": (lambda f: cut(f / "member-1.safetensors"), "Copy the whole folder"),
    "empty member": (lambda f: (f / "member-1.safetensors").write_bytes(b""), "Copy the whole"),
    "more classes": (lambda f: rewrite(f, classes=[*CLASSES, "x"]), "size mismatch"),
    "another adapter": (lambda f: rewrite(f, adapters=[{"name": "vpt"}]), "adapters.0.tokens"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_folder_is_named_with_what_is_wrong(damage: str, folder: Path) -> None:
    break_it, message = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(BrokenModel, match=f"(?s){folder}.*{message}"):
        load_classifier(folder)


@pytest.mark.parametrize("name", ["../member-1.safetensors", "/etc/passwd", "a/b", "..", "..\\x"])
def test_a_model_names_no_file_outside_of_its_folder(folder: Path, name: str) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**description, "members": [name]}))
    for read in (load_classifier, load_heads):
        with pytest.raises(BrokenModel, match="expected weights beside"):
            read(folder)


def test_no_folder_is_a_broken_model(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match=r"model\.json is missing"):
        load_classifier(tmp_path / "nowhere")
