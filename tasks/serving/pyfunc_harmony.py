"""The registered model of several kinds of data. MLflow copies this file into the artifact.

It runs where coft is not installed, as `pyfunc_model.py` does. The docstring of
`ModalityModel.predict` explains the columns of requests and answers.
"""

from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from clipcore.harmony.bundle import load_model
from clipcore.harmony.model import COLUMNS, HarmonyModel
from clipcore.rows import BadRequest, answered, check_columns, check_top_k


class ModalityModel(PythonModel):
    """A state of Harmony with the towers of its images, as MLflow calls it."""

    model: HarmonyModel

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights in the artifact; nothing is downloaded.

        `mlflow.pyfunc.load_model(uri, model_config={"device": "cuda:1"})` chooses where towers are;
        `auto` is a GPU if there is one.
        """
        device = str((context.model_config or {}).get("device", "auto"))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_model(Path(context.artifacts["bundle"]), device=device)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 # MLflow passes it by position
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Classify every row.

        Args:
            context: Unused; the weights are loaded already.
            model_input: `embedding`: the features of a sample, a list of numbers. Else `image`,
                `path` or `url`: an image, as a classifier of images takes it. `modality`: what the
                row is, one of those that the model has learned; null where nobody knows.
            params: `top_k`: number of classes in `probabilities`, most probable first; 0, the
                default, for all.

        Returns:
            `label`: the most probable class. `score`: its probability.
            `probabilities`: class name to probability.
            `modality`: what the row was taken for. `modality_score`: the probability of that.
            `error`: null, or why a row cannot be answered; then the others are null.

        Raises:
            MlflowException: no row can be answered, or the request is none; a server answers 400
                with the first row's number and reason.
        """
        try:
            top_k = check_top_k((params or {}).get("top_k", 0))
            # MLflow drops all other columns.
            columns = check_columns(model_input.columns, self.model.inputs)
            said = answered(self.model, model_input[columns].to_dict("records"), top_k)
        except BadRequest as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(said, columns=list(COLUMNS), dtype=object)  # which keeps None as null


mlflow.models.set_model(ModalityModel())
