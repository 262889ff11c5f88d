"""The registered classifier: images in, labels out. MLflow copies this file into the artifact.

It runs where coft is not installed: it may import the package in the artifact (`clipcore`) and the
artifact's requirements, nothing else of this project. The docstring of `ImageClassifier.predict`
explains the columns of requests and answers.
"""

import base64
import binascii
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from clipcore.classifier import MAX_PIXELS, Classifier, load_classifier
from clipcore.image_files import BadImage
from clipcore.images import read_pixels

MAX_BYTES = 64 * 2**20  # of one image file, as in coft's own pool
BATCH = 64  # images of one forward pass, so that a large request does not need large memory
IMAGE_ROOT = "COFT_IMAGE_ROOT"  # environment variable: serve `path` only below this folder
COLUMNS = ["label", "score", "probabilities", "error"]

_NOTHING = ("", "None")  # the latter is what MLflow makes of null in requests with `inputs`

Row = tuple[object, object]  # image, path


class BadRow(ValueError):
    """A row that names no image file that may be read."""


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
                where the model runs, read when `image` is null, empty or absent. The column
                decides, not the content: the base64 of a JPEG starts with "/", as a path does.
            params: `top_k`: number of classes in `probabilities`, most probable first; 0, the
                default, for all.

        Returns:
            `label`: the most probable class. `score`: its probability.
            `probabilities`: class name to probability.
            `error`: null, or why a row has no usable image; then the others are null.

        Raises:
            MlflowException: no row has a usable image, or the request is none; a server answers
                400 with the first row's number and reason.
        """
        top_k = int((params or {}).get("top_k", 0))
        if top_k < 0:
            raise _bad_request(f"expected top_k of 0 (all classes) or more, got {top_k}")
        if not {"image", "path"} & set(model_input.columns):  # MLflow drops all other columns
            raise _bad_request("expected a column `image` or `path`, got neither")
        columns = (_column(model_input, "image"), _column(model_input, "path"))
        rows = list(zip(*columns, strict=True))
        answers: list[dict[str, object]] = []
        for start in range(0, len(rows), BATCH):
            answers += self._answer(rows[start : start + BATCH], top_k)
        if answers and all(answer["error"] for answer in answers):
            raise _bad_request(f"row 0: {answers[0]['error']}")
        return pd.DataFrame(answers, columns=COLUMNS, dtype=object)  # which keeps None as null

    def _answer(self, rows: Sequence[Row], top_k: int) -> Iterator[dict[str, object]]:
        """Yield the answer to each row of a batch."""
        read = [self._read(*row) for row in rows]
        good = [pixels for pixels in read if not isinstance(pixels, str)]
        probabilities = iter(
            self.classifier.probabilities(torch.from_numpy(np.stack(good))).numpy() if good else ()
        )
        for pixels in read:
            if isinstance(pixels, str):
                yield dict.fromkeys(COLUMNS) | {"error": pixels}
            else:
                yield _said(next(probabilities), self.classifier.classes, top_k)

    def _read(self, image: object, path: object) -> np.ndarray | str:
        """Return the pixels of a row, or why there are none; one image is decoded at a time."""
        try:
            data = _image_file(image, path)
            return read_pixels(data, self.classifier.preprocess, max_pixels=MAX_PIXELS)
        except (BadImage, BadRow) as error:
            return str(error)


def _column(table: pd.DataFrame, name: str) -> list[object]:
    return list(table[name]) if name in table.columns else [None] * len(table)


def _image_file(image: object, path: object) -> bytes:
    """Return the image file of a row, from its bytes or from the disk."""
    if isinstance(image, str) and image not in _NOTHING:
        return _from_base64(image)
    if isinstance(image, bytes | bytearray | memoryview) and len(image):
        return _without_base64(bytes(image))
    if isinstance(path, str) and path not in _NOTHING:
        return _from_disk(Path(path))
    msg = (
        "expected the bytes of an image in column `image` (base64 in JSON), or a file name in"
        " column `path`, got neither"
    )
    raise BadRow(msg)


def _without_base64(data: bytes) -> bytes:
    """Decode base64 that comes as bytes, as from a column of a Parquet file.

    No image file consists of base64 characters alone, so other values are returned as they are.
    """
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return data


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # lines may be broken
    except ValueError as error:
        msg = "column `image` holds a text that is not base64; file names go to `path`"
        raise BadRow(msg) from error


def _from_disk(path: Path) -> bytes:
    """Read a regular file of limited size; reading a device or a pipe would never end."""
    root = os.environ.get(IMAGE_ROOT)
    if root and not path.resolve().is_relative_to(Path(root).resolve()):
        msg = f"column `path` may only name files below {IMAGE_ROOT}"
        raise BadRow(msg)
    try:
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
    except OSError as error:
        msg = f"cannot read `path`: {error.strerror}"
        raise BadRow(msg) from error
    msg = f"expected `path` to be a file of at most {MAX_BYTES} bytes on this machine"
    raise BadRow(msg)


def _said(probabilities: np.ndarray, classes: tuple[str, ...], top_k: int) -> dict[str, object]:
    order = np.argsort(-probabilities, kind="stable")[: top_k or len(classes)]
    return {
        "label": classes[order[0]],
        "score": float(probabilities[order[0]]),
        "probabilities": {classes[index]: float(probabilities[index]) for index in order},
        "error": None,
    }


def _bad_request(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(ImageClassifier())
