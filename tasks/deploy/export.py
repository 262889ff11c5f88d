"""Write a registered model in a format of other programs, with a script that uses it there."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipcore import export as formats
from clipcore.classifier import load_classifier
from clipcore.export import INPUT, CannotExport, Format
from tasks.deploy import consumers
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.files import exists, read_json, write_bytes, write_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import join
from tasks.tracking.registry_model import check_kind, local_bundle

if TYPE_CHECKING:
    import onnxruntime
else:  # an optional package
    onnxruntime = OnDemand("onnxruntime")

ABOUT, SCRIPT = "model.json", "predict.py"
CLOSE = 1e-4  # how much a probability may differ
_CHECKED = 8  # images of noise


def export(uri: str, form: Format, folder: str, runtime: RuntimeSpec) -> list[str]:
    """Write the weights, `model.json` and `predict.py`, and return the files.

    Raises:
        InputError: no model has this URI, its format cannot hold it, a package is missing, or the
            folder holds the description of a model of coft, which would be overwritten.
    """
    version = check_kind(uri, runtime)
    if exists(join(folder, ABOUT)) and "format" in read_json(join(folder, ABOUT)):
        raise InputError(f"{folder} holds a model of coft; name another folder")
    with (
        tempfile.TemporaryDirectory(prefix="coft-export-") as temporary,
        local_bundle(version, runtime) as bundle,
    ):
        try:
            formats.write(load_classifier(bundle), form, Path(temporary))
        except CannotExport as error:
            raise InputError(str(error)) from error
        _compare(bundle, form, Path(temporary))
        written = sorted(Path(temporary).iterdir())
        for path in written:
            write_bytes(join(folder, path.name), path.read_bytes())
        about = _about(read_json(str(bundle / DESCRIPTION)), version)
    script = Path(consumers.__file__).with_name(f"{form}.py").read_bytes()
    write_bytes(join(folder, SCRIPT), script)
    write_json(join(folder, ABOUT), about)
    return [join(folder, name) for name in (*(path.name for path in written), SCRIPT, ABOUT)]


def _about(description: dict[str, Any], version: str) -> dict[str, Any]:
    """Return what the script has to know, and where the model is from."""
    config = description["config"]
    vision = dict(config["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    tower = {
        "embed_dim": config["embed_dim"],
        "vision_cfg": vision,
        "quick_gelu": bool(config.get("quick_gelu", False)),
    }
    return {
        **description["preprocess"],
        "classes": description["classes"],
        "members": len(description["members"]),
        "tower": tower,
        "model": version,
    }


def _compare(bundle: Path, form: Format, folder: Path) -> None:
    """Refuse a file of which the runtime that reads it makes other numbers than PyTorch."""
    if form == "safetensors":
        return
    classifier = load_classifier(bundle)
    pixels = formats.example(classifier, _CHECKED)
    with torch.inference_mode():
        expected = formats.Deployed(classifier)(pixels).numpy()
    file = folder / formats.FILES[form]
    try:
        found = probabilities_of(file, pixels.numpy())
    except ImportError:
        say("Not compared with PyTorch: the package onnxruntime is not installed.")
        return
    differs = float(np.abs(found - expected).max())
    if not differs <= CLOSE:
        raise InputError(f"{form}: probabilities differ by {differs:.1e} from PyTorch's")
    say(f"Probabilities differ by {differs:.1e} from PyTorch's at most.")


def probabilities_of(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Return what an exported file makes of pixels."""
    if file.suffix == ".pt":
        traced: np.ndarray = torch.jit.load(str(file))(torch.from_numpy(pixels)).numpy()
        return traced
    session = onnxruntime.InferenceSession(str(file))
    found: np.ndarray = session.run(None, {INPUT: pixels})[0]
    return found
