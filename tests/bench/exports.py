"""Exports: ONNX Runtime and TorchScript beside PyTorch, in numbers and in images a second."""

from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import torch

from clipcore import export
from clipcore.classifier import load_classifier
from clipcore.images import read_pixels
from tasks.deploy.export import CLOSE, probabilities_of
from tests.bench import images
from tests.bench.measure import interleaved, say, seconds
from tests.bench.pipeline import Bench
from tests.bench.rows import Row
from tests.bench.serving import save_model

IMAGES = 500
BATCH = 32


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    bundle = save_model(bench.folder / "exported")
    pixels = _pixels(bundle, 8 if bench.quick else IMAGES)
    module = export.Deployed(load_classifier(bundle)).eval()
    with torch.inference_mode():
        parts = [module(part).numpy() for part in torch.from_numpy(pixels).split(BATCH)]
    expected = np.concatenate(parts)
    rows = []
    for form in ("onnx", "torchscript"):
        file = export.write(load_classifier(bundle), form, bench.folder)
        differs = float(np.abs(_run(file, pixels) - expected).max())
        rows.append(
            Row(
                f"{form}: largest difference of a probability, in 1e-6",
                "",
                differs * 1e6,
                CLOSE * 1e6,
                differs / CLOSE,
                at_most=1.0,
                note=f"{len(pixels)} images",
            )
        )
    return rows + _speed(bench, module, pixels[:BATCH])


def _speed(bench: Bench, module: torch.nn.Module, pixels: np.ndarray) -> list[Row]:
    """Return the rows of speed, with one thread each."""
    torch.set_num_threads(1)
    one = onnxruntime.SessionOptions()
    one.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bench.folder / export.FILES["onnx"]), one)
    traced = torch.jit.load(str(bench.folder / export.FILES["torchscript"]))
    tensor = torch.from_numpy(pixels)

    def torch_forward() -> None:
        with torch.inference_mode():
            module(tensor)

    def torchscript() -> None:
        with torch.inference_mode():
            traced(tensor)

    def onnx() -> None:
        session.run(None, {export.INPUT: pixels})

    works = {"onnx": onnx, "torchscript": torchscript, "torch": torch_forward}
    timed = {name: partial(seconds, work) for name, work in works.items()}
    found = interleaved(timed, rounds=1 if bench.quick else 5)
    rate = {name: len(pixels) / value for name, value in found.items()}
    return [
        Row(f"{name} beside torch", "/s", rate[name], rate["torch"], rate[name] / rate["torch"])
        for name in ("onnx", "torchscript")
    ]


def _run(file: Path, pixels: np.ndarray) -> np.ndarray:
    found = [probabilities_of(file, pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
    return np.concatenate(found)


def _pixels(bundle: Path, count: int) -> np.ndarray:
    """Return real images, where there are any, as the model takes them."""
    preprocess = load_classifier(bundle).preprocess
    if images.REAL_LABELLED.exists():
        table = pq.read_table(images.REAL_LABELLED, columns=["image"]).slice(0, count)
        files = table["image"].to_pylist()
    else:
        files = [images.jpeg(number, side=32) for number in range(count)]
        say("generated pictures")
    return np.stack([read_pixels(data, preprocess, max_pixels=10**8) for data in files])
