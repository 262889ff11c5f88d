"""The registered language model that sees. MLflow copies this file into the artifact.

It runs where coft is not installed, as `pyfunc_model.py` does. The docstring of
`CaptionModel.predict` explains the columns of requests and answers.
"""

from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from clipcore.libra.bundle import load_model
from clipcore.libra.served import COLUMNS, LibraModel
from clipcore.libra.source import language_from_environment
from clipcore.rows import BadRequest, answered, check_columns, check_top_k


class CaptionModel(PythonModel):
    """Libra with the tower that it sees by, as MLflow calls it."""

    model: LibraModel

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights in the artifact, and the language model; nothing is downloaded.

        The environment variable COFT_LLM names the folder of the language model (config.json,
        tokenizer.json, *.safetensors), unless the artifact holds it. Another language model than
        the one that was learned on is refused.

        `mlflow.pyfunc.load_model(uri, model_config={"device": "cuda:1"})` chooses a device;
        `auto` is a GPU if there is one.
        """
        device = str((context.model_config or {}).get("device", "auto"))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(context.artifacts["bundle"])
        self.model = load_model(folder, language=language_from_environment(), device=device)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 # MLflow passes it by position
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Describe the image of every row.

        Args:
            context: Unused; the weights are loaded already.
            model_input: `image`, `path` or `url`: an image, as a classifier of images takes it.
                `prompt`: the beginning of the sentence that is said of it, such as "This picture
                shows a"; null for the sentence that was learned.
            params: `top_k`: number of classes in `probabilities`, most probable first; 0, the
                default, for all.

        Returns:
            `label`: the most probable class. `score`: its probability.
            `probabilities`: class name to probability, of the sentence that was learned, whatever
            the prompt. `caption`: the prompt and how the model ends it. `caption_score`: the
            probability of that ending as a whole, exp of the sum of its tokens' log-probabilities:
            a longer sentence has a lower one.
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


mlflow.models.set_model(CaptionModel())
