"""The registered classifier: images in, labels out. MLflow copies this file into the artifact.

It runs where coft is not installed: it may import the package in the artifact (`clipcore`) and the
artifact's requirements, nothing else of this project. The docstring of `ImageClassifier.predict`
explains the columns of requests and answers.
"""

from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from clipcore.classifier import Classifier, load_classifier
from clipcore.rows import COLUMNS, BadRequest, answered, check_columns, check_top_k


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
            model_input: `image`: bytes of an image file; in JSON base64, or a data URI. `path`: a
                file below the folder that the environment variable COFT_IMAGE_ROOT names where the
                model runs; `url`: an image on a host that COFT_IMAGE_HOSTS names. Without these
                both are off. The first that is not null, empty or absent counts.
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
        try:
            top_k = check_top_k((params or {}).get("top_k", 0))
            # MLflow drops all other columns.
            rows = model_input[check_columns(model_input.columns)].to_dict("records")
            said = answered(self.classifier, rows, top_k)
        except BadRequest as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(said, columns=list(COLUMNS), dtype=object)  # which keeps None as null


mlflow.models.set_model(ImageClassifier())
