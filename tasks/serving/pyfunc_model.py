"""The registered classifier: images in, labels out. MLflow copies this file into the artifact.

It runs where coft is not installed: it may import the package in the artifact (`clipcore`) and the
artifact's requirements, nothing else of this project. The docstring of `ImageClassifier.predict`
explains the columns of requests and answers.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from clipcore.classifier import Classifier, load_classifier
from clipcore.images import BadImage

MAX_BYTES = 64 * 2**20  # of one image file, as in coft's own pool
BATCH = 64  # images of one forward pass, so that a large request does not need large memory
IMAGE_ROOT = "COFT_IMAGE_ROOT"  # environment variable: serve `path` only below this folder


class ImageClassifier(PythonModel):
    """A classifier adapted by coft, as MLflow calls it."""

    classifier: Classifier

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights in the artifact; nothing is downloaded.

        `mlflow.pyfunc.load_model(uri, model_config={"device": "cuda:1"})` chooses a device;
        `auto` is a GPU if there is one.
        """
        device = str((context.model_config or {}).get("device", "auto"))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.classifier = load_classifier(Path(context.artifacts["bundle"]), device=device)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 # MLflow passes it by position
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Classify the image of every row.

        Args:
            context: Unused; the weights are loaded already.
            model_input: `image`: bytes of an image file, base64 in JSON. `path`: an image file
                where the model runs, read when `image` is empty or absent. The column decides, not
                the content: the base64 of a JPEG starts with "/", as a path does.
            params: `top_k`: number of classes in `probabilities`, most probable first; 0, the
                default, for all.

        Returns:
            `label`: the most probable class. `score`: its probability.
            `probabilities`: class name to probability.

        Raises:
            MlflowException: a row without a usable image, with its number and the reason; a server
                answers 400. Nothing is returned for the other rows.
        """
        top_k = int((params or {}).get("top_k", 0))
        if top_k < 0:
            raise _bad_request(f"expected top_k of 0 (all classes) or more, got {top_k}")
        if not {"image", "path"} & set(model_input.columns):  # MLflow drops all other columns
            raise _bad_request("expected a column `image` or `path`, got neither")
        images = _column(model_input, "image")
        paths = _column(model_input, "path")
        files = [
            _image_file(*row) for row in zip(range(len(model_input)), images, paths, strict=True)
        ]
        answers = [_answer(row, self.classifier.classes, top_k) for row in self._classify(files)]
        return pd.DataFrame(answers, columns=["label", "score", "probabilities"])

    def _classify(self, files: list[bytes]) -> list[np.ndarray]:
        probabilities: list[np.ndarray] = []
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            try:
                probabilities.extend(self.classifier.predict_bytes(batch))
            except BadImage:
                self._name_bad_row(batch, start)
                raise
        return probabilities

    def _name_bad_row(self, batch: list[bytes], start: int) -> None:
        """Raise an error with the row of the first image that cannot be decoded."""
        for offset, data in enumerate(batch):
            try:
                self.classifier.predict_bytes([data])
            except BadImage as error:
                raise _bad_request(f"row {start + offset}: {error}") from error


def _column(table: pd.DataFrame, name: str) -> list[object]:
    return list(table[name]) if name in table.columns else [None] * len(table)


def _image_file(row: int, image: object, path: object) -> bytes:
    """Return the image file of a row, from its bytes or from the disk."""
    if isinstance(image, str) and image:  # callers in the process may pass base64 as well
        return _from_base64(row, image)
    if isinstance(image, bytes | bytearray | memoryview) and len(image):
        return _without_base64(bytes(image))
    if isinstance(path, str) and path:
        return _from_disk(row, Path(path))
    raise _bad_request(
        f"row {row}: expected the bytes of an image in column `image` (base64 in JSON), or a file"
        " name in column `path`, got neither"
    )


def _without_base64(data: bytes) -> bytes:
    """Decode the base64 that MLflow leaves in requests of the form `{"inputs": [...]}`.

    No image file consists of base64 characters alone, so other values are returned as they are.
    """
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return data


def _from_base64(row: int, text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # lines may be broken
    except ValueError as error:
        msg = f"row {row}: column `image` holds a text that is not base64; file names go to `path`"
        raise _bad_request(msg) from error


def _from_disk(row: int, path: Path) -> bytes:
    """Read a regular file of limited size; reading a device or a pipe would never end."""
    root = os.environ.get(IMAGE_ROOT)
    if root and not path.resolve().is_relative_to(Path(root).resolve()):
        raise _bad_request(f"row {row}: column `path` may only name files below {IMAGE_ROOT}")
    try:
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise _bad_request(f"row {row}: cannot read `path`: {error.strerror}") from error
    msg = f"row {row}: expected `path` to be a file of at most {MAX_BYTES} bytes on this machine"
    raise _bad_request(msg)


def _answer(probabilities: np.ndarray, classes: tuple[str, ...], top_k: int) -> dict[str, object]:
    order = np.argsort(-probabilities, kind="stable")[: top_k or len(classes)]
    return {
        "label": classes[order[0]],
        "score": float(probabilities[order[0]]),
        "probabilities": {classes[index]: float(probabilities[index]) for index in order},
    }


def _bad_request(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(ImageClassifier())
