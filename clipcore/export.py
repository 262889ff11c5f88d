"""A classifier as one module and in formats that other programs read: pixels in, probabilities out.

The input is uint8 of shape (batch, size, size, 3), as `clipcore.images.resize_and_crop` makes it;
all else is in the graph: scaling, the towers, the heads, the mean of the members. Weights are fp32.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn

from clipcore.classifier import Classifier
from clipcore.inference import prepared

Format = Literal["onnx", "torchscript", "safetensors"]
FILES: dict[Format, str] = {
    "onnx": "model.onnx",
    "torchscript": "model.pt",
    "safetensors": "model.safetensors",
}
INPUT, OUTPUT = "pixels", "probabilities"
_LARGEST = 1_500_000_000  # bytes of weights in one file of ONNX; protobuf holds 2 GiB


class CannotExport(ValueError):
    """A classifier that a format cannot hold, or a package that is not there."""


class Deployed(nn.Module):
    """A classifier for other programs, in fp32, without parametrizations.

    Args:
        classifier: Used up: the towers of its members are replaced.
        folded: Whether batch norms become part of convolutions. ONNX Runtime does that itself, and
            refuses what the exporter makes of a padding of weights.
    """

    def __init__(self, classifier: Classifier, *, folded: bool = True) -> None:
        super().__init__()
        self.members = nn.ModuleList()
        for member in classifier.members:
            member.visual.network = prepared(
                member.visual.network, dtype=torch.float32, folded=folded
            )
            self.members.append(member.float())
        self.eval()

    def forward(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the mean softmax of the members."""
        softmaxes = [
            member.head(member.visual(pixels)).softmax(dim=1)  # type: ignore[operator]
            for member in self.members
        ]
        return torch.stack(softmaxes).mean(dim=0)


def example(classifier: Classifier, images: int = 2) -> UInt8[Tensor, "batch height width 3"]:
    """Return pixels of noise for a classifier."""
    size = classifier.preprocess.size
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, size, size, 3), generator=draws, dtype=torch.uint8)


def write(classifier: Classifier, form: Format, folder: Path) -> Path:
    """Write a classifier, which is used up by that, and return the file.

    Raises:
        CannotExport: says why, and what to do.
    """
    file = folder / FILES[form]
    if form == "safetensors":
        _write_safetensors(classifier, file)
        return file
    module, pixels = Deployed(classifier, folded=form != "onnx"), example(classifier)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        if form == "onnx":
            _write_onnx(module, pixels, file)
        else:
            torch.jit.trace(module, (pixels,), check_trace=False).save(str(file))
    return file


def _write_onnx(module: Deployed, pixels: Tensor, file: Path) -> None:
    weights = sum(value.nbytes for value in module.state_dict().values())
    try:
        torch.onnx.export(
            module,
            (pixels,),
            str(file),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=weights > _LARGEST,
        )
    except ImportError as error:
        msg = f"ONNX needs the packages onnx and onnxscript ({error.name} is not installed)"
        raise CannotExport(f"{msg}: pip install '.[onnx]'") from error


def _write_safetensors(classifier: Classifier, file: Path) -> None:
    """Write open_clip's own names, `members.N.visual.` or `members.N.head.` before them."""
    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(classifier.members):
        if len(member.visual.adapters):
            msg = "an adapter with weights of its own is no part of open_clip's tower"
            raise CannotExport(f"{msg}; take --format onnx or torchscript")
        network = prepared(member.visual.network, dtype=torch.float32, folded=False)
        parts: Mapping[str, nn.Module] = {"visual": network, "head": member.head}
        for part, module in parts.items():
            for name, value in module.state_dict().items():
                tensors[f"members.{number}.{part}.{name}"] = value.contiguous()
    save_file(tensors, file)
