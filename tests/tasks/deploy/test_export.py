"""Exported files give the classifier's own numbers, read by a script that knows nothing of coft."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipcore.classifier import Classifier, load_classifier
from clipcore.export import FILES, Format
from tasks.deploy.export import export, probabilities_of
from tasks.specs import InputError, RuntimeSpec
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.images import encoded_image

RUNTIME = RuntimeSpec(workspace="memory://nowhere")
# Of the scripts themselves: what they may not import.
WITHOUT = """
import runpy, sys
for name in ("torch", "open_clip", "clipcore", "tasks", "flows", "infra", "mlflow", "safetensors"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="module")
def exported(bundle: Path) -> dict[Format, Path]:
    """The model in each format, beside the bundle."""
    found = {form: bundle.parent / form for form in FILES}
    for form, folder in found.items():
        files = export(str(bundle), form, str(folder), RUNTIME)
        assert {Path(file).name for file in files} == {path.name for path in folder.iterdir()}
    return found


@pytest.fixture(scope="module")
def photos(bundle: Path) -> list[Path]:
    """Photos of several shapes; the squares have the size of the model already."""
    paths = []
    for seed, size in enumerate([(24, 20), (17, 40), (16, 16), (64, 63)]):
        paths.append(bundle.parent / f"{seed}.png")
        paths[-1].write_bytes(encoded_image(seed, size))
    return paths


def in_fp32(classifier: Classifier, pixels: torch.Tensor) -> np.ndarray:
    """The definition: no folding, no bf16."""
    with torch.inference_mode():
        members = [member.logits(member.visual(pixels)) for member in classifier.members]
        found: np.ndarray = torch.stack([m.softmax(dim=1) for m in members]).mean(dim=0).numpy()
    return found


def check(said: str, bundle: Path, photos: list[Path]) -> None:
    """Check the lines of a script: file, class and probability."""
    classifier = load_classifier(bundle)
    classifier.encoders = ()  # type: ignore[misc]  # the definition alone is asked
    from clipcore.images import read_pixels

    lines = [line.split("\t") for line in said.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in photos]
    for (_, label, probability), path in zip(lines, photos, strict=True):
        pixels = read_pixels(path.read_bytes(), classifier.preprocess, max_pixels=10**6)
        (expected,) = in_fp32(classifier, torch.from_numpy(pixels.copy())[None])
        assert label == classifier.classes[int(expected.argmax())]
        assert float(probability) == pytest.approx(expected.max(), abs=1e-4)


@pytest.mark.slow
def test_the_script_for_onnx_needs_neither_coft_nor_torch(
    exported: dict[Format, Path], bundle: Path, photos: list[Path]
) -> None:
    script = exported["onnx"] / "predict.py"
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT, str(script), *map(str, photos)],
        capture_output=True,
        text=True,
        check=False,
        cwd=bundle.parent,
    )
    assert done.returncode == 0, done.stderr
    check(done.stdout, bundle, photos)


@pytest.mark.parametrize("form", ["torchscript", "safetensors"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
def test_the_other_scripts_need_no_coft(
    form: Format,
    exported: dict[Format, Path],
    bundle: Path,
    photos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = str(exported[form] / "predict.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, photos)])
    for room in ("clipcore", "tasks", "flows", "infra"):
        monkeypatch.setitem(sys.modules, room, None)
    with torch.inference_mode():
        runpy.run_path(script, run_name="__main__")
    monkeypatch.undo()
    check(capsys.readouterr().out, bundle, photos)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_any_number_of_images_has_the_numbers_of_torch(
    form: Format, exported: dict[Format, Path], bundle: Path
) -> None:
    classifier = load_classifier(bundle)
    draws = torch.Generator().manual_seed(3)
    for count in (1, 5):
        shape = (count, 16, 16, 3)
        pixels = torch.randint(0, 256, shape, generator=draws, dtype=torch.uint8)
        found = probabilities_of(exported[form] / FILES[form], pixels.numpy())
        np.testing.assert_allclose(found, in_fp32(classifier, pixels), atol=1e-4)


def test_the_folder_of_a_model_is_not_overwritten(bundle: Path) -> None:
    with pytest.raises(InputError, match="holds a model of coft; name another folder"):
        export(str(bundle), "safetensors", str(bundle), RUNTIME)
