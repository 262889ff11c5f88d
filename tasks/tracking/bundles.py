"""What a model of each kind is to MLflow: its code, the columns of requests, an example of one."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipcore.description import kind_of
from clipcore.rows import INPUTS
from tasks import serving
from tasks.refs import ModelKind
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_CODE = {
    ModelKind.CLASSIFIER: "pyfunc_model.py",
    ModelKind.HARMONY: "pyfunc_harmony.py",
    ModelKind.LIBRA: "pyfunc_libra.py",
}
_PACKAGES: Mapping[ModelKind, Sequence[str]] = {ModelKind.LIBRA: ("tokenizers",)}
PROMPT = "This picture shows a"


@dataclass(frozen=True)
class Bundle:
    """The folder of a model, and which kind of model that is.

    Attributes:
        folder: With JSON and safetensors.
        kind: Of the model.
    """

    folder: Path
    kind: ModelKind

    @classmethod
    def of(cls, folder: Path) -> "Bundle":
        """Return what a folder holds."""
        return cls(folder, ModelKind(kind_of(folder)))

    @property
    def code(self) -> Path:
        """Return the file that answers for such a model."""
        return Path(serving.__file__).with_name(_CODE[self.kind])

    @property
    def packages(self) -> Sequence[str]:
        """Return what such a model needs beside the packages of all."""
        return _PACKAGES.get(self.kind, ())

    def signature(self) -> "ModelSignature":
        """Return the columns of requests and answers; the docstring of `predict` explains each.

        `probabilities` is a map and not an array, so that an answer holds the class names, and can
        be cut to the first `top_k`. `image` is a string and not binary, because MLflow's server
        fails on null in a binary column; bytes pass all the same. For the same reason `embedding`
        is of any type: in an array column MLflow refuses the null of a row that has an image.
        """
        from mlflow.models import ModelSignature  # noqa: PLC0415 # slow to import
        from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
        from mlflow.types.schema import AnyType, Map  # noqa: PLC0415

        text, number = DataType.string, DataType.double
        own: dict[str, Any] = {"label": text, "score": number, "probabilities": Map(number)}
        taken: dict[str, Any] = dict.fromkeys(INPUTS, text)
        if self.kind == ModelKind.HARMONY:
            taken |= {"embedding": AnyType(), "modality": text}  # type: ignore[no-untyped-call]
            own |= {"modality": text, "modality_score": number}
        if self.kind == ModelKind.LIBRA:
            taken |= {"prompt": text}
            own |= {"caption": text, "caption_score": number}
        return ModelSignature(
            inputs=Schema([ColSpec(kind, name, required=False) for name, kind in taken.items()]),
            outputs=Schema(
                [
                    *(ColSpec(kind, name) for name, kind in own.items()),
                    ColSpec(text, "error", required=False),
                ]
            ),
            params=ParamSchema([ParamSpec("top_k", DataType.long, 0)]),
        )

    def input_example(self) -> "tuple[object, dict[str, int]]":
        """Return a request: a table with one row, a picture, with a prompt, or an embedding."""
        import pandas as pd  # noqa: PLC0415 # comes with MLflow, and is as slow to import

        columns: Mapping[str, Any] = {"image": [_picture()]}
        if self.kind == ModelKind.LIBRA:
            columns = {**columns, "prompt": [PROMPT]}
        if self.kind == ModelKind.HARMONY:
            first = read_json(str(self.folder / DESCRIPTION))["modalities"][0]
            columns = {"embedding": [[0.0] * first["width"]], "modality": [first["name"]]}
        return pd.DataFrame(columns), {"top_k": 3}


def _picture() -> bytes:
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))], axis=2)
    pixels = np.concatenate([pixels, np.full((32, 32, 1), 128, np.uint8)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
