"""What a classifier says of how it was chosen."""

import json
import math

import pytest

from clipcore.coft.guard import Candidate
from tasks.classifier import _as_fact, _say_choice


def test_what_was_measured_on_no_image_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    candidates = [Candidate(0, 0.0, math.nan), Candidate(1, 1.0, math.nan)]
    facts = [_as_fact(candidate) for candidate in candidates]
    assert json.loads(json.dumps(facts, allow_nan=False))[1] == {
        "epoch": 1,
        "alpha": 1.0,
        "agreement": None,
    }
    _say_choice(candidates, candidates[1])
    assert "too few labels" in capsys.readouterr().err
    assert _as_fact(Candidate(0, 0.5, 0.875))["agreement"] == 0.875
