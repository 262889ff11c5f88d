"""`metrics.json` of an evaluation, checked: unknown fields pass, unknown numbers are None."""

from math import sqrt

from pydantic import BaseModel, ConfigDict

from tasks.refs import EvaluationRef
from tasks.storage.files import read_json
from tasks.storage.layout import METRICS
from tasks.storage.uris import join

_Z95 = 1.96  # standard normal quantile of a 95 % interval


class Lenient(BaseModel):
    """A record of a file that another step wrote; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ClassMetrics(Lenient):
    """One class; recall is None without an image of it, precision without a prediction of it."""

    recall: float | None = None
    precision: float | None = None
    num_images: int = 0
    num_predicted: int = 0


class Measured(Lenient):
    """One classifier against labels; the rows of `confusion` are true classes."""

    accuracy: float
    mean_recall: float | None = None
    calibration_error: float | None = None
    num_images: int = 0
    per_class: dict[str, ClassMetrics] = {}
    confusion: list[list[int]] = []

    @property
    def margin(self) -> float:
        """Half width of the 95 % interval of the accuracy (normal approximation)."""
        return _Z95 * sqrt(self.accuracy * (1 - self.accuracy) / max(self.num_images, 1))


class KeptPrecision(Lenient):
    """Shares of the labels of one source that are right, among those kept and among the others."""

    kept_precision: float | None = None
    rejected_precision: float | None = None


class Metrics(Lenient):
    """All that an evaluation measured; without labels that is nothing."""

    zero_shot: Measured | None = None
    phase1: Measured | None = None
    adapted: Measured | None = None
    transductive: bool = False
    kept_label_precision: dict[str, KeptPrecision | None] = {}

    @property
    def best_known(self) -> Measured | None:
        """The metrics of the shipped model: adapted, or zero-shot where nothing was adapted."""
        return self.adapted or self.zero_shot

    @property
    def gain(self) -> float | None:
        """Accuracy gained over zero-shot, None unless both were measured."""
        if self.zero_shot is None or self.adapted is None:
            return None
        return self.adapted.accuracy - self.zero_shot.accuracy


def read_metrics(evaluation: EvaluationRef) -> Metrics:
    """Read and check `metrics.json`."""
    return Metrics.model_validate(read_json(join(evaluation.uri, METRICS)))
