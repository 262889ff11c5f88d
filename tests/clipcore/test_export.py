"""What is exported is the classifier itself, in fp32, whatever adapters it has."""

from pathlib import Path

import pytest
import torch

from clipcore.adapters import attach
from clipcore.backbone_names import AdapterName
from clipcore.classifier import Classifier, load_classifier
from clipcore.export import CannotExport, Deployed, example, write
from tests.worlds.classifier import save_tiny_classifier


def adapted(folder: Path, name: AdapterName) -> Classifier:
    """A classifier whose towers have an adapter that does something."""
    classifier = load_classifier(save_tiny_classifier(folder))
    draws = torch.Generator().manual_seed(5)
    for member in classifier.members:
        adapter = attach(member.visual, name, generator=draws, num_visual_prompts=2, lora_rank=2)
        for value in adapter.parameters():
            value.data = torch.randn(value.shape, generator=draws) * 0.3
    return classifier


@pytest.mark.parametrize("name", ["lora", "vpt"])
def test_an_adapter_is_part_of_the_module(tmp_path: Path, name: AdapterName) -> None:
    classifier = adapted(tmp_path, name)
    pixels = example(classifier, 3)
    with torch.inference_mode():
        members = [member.logits(member.visual(pixels)) for member in classifier.members]
        expected = torch.stack([logits.softmax(dim=1) for logits in members]).mean(dim=0)
        plain = Deployed(load_classifier(tmp_path))(pixels)
        found = Deployed(classifier)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - plain).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
def test_a_file_takes_any_number_of_images_whatever_the_adapter(tmp_path: Path) -> None:
    classifier = adapted(tmp_path, "vpt")
    file = write(adapted(tmp_path, "vpt"), "torchscript", tmp_path)
    for count in (1, 5):
        pixels = example(classifier, count)
        with torch.inference_mode():
            members = [member.logits(member.visual(pixels)) for member in classifier.members]
            expected = torch.stack([m.softmax(dim=1) for m in members]).mean(dim=0)
            found = torch.jit.load(str(file))(pixels)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_safetensors_hold_what_is_a_weight_of_the_tower(tmp_path: Path) -> None:
    assert write(adapted(tmp_path / "lora", "lora"), "safetensors", tmp_path).is_file()
    with pytest.raises(CannotExport, match="--format onnx or torchscript"):
        write(adapted(tmp_path / "vpt", "vpt"), "safetensors", tmp_path)
