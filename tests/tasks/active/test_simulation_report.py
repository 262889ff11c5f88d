"""What a simulation found, as numbers, lines and a page."""

import re

import pytest

from clipcore.active.simulation import Row
from tasks.active import simulation_report


def test_findings_are_means_and_spreads_over_seeds() -> None:
    def rows(*accuracy: float) -> list[Row]:
        return [
            {
                "num_labels": 10 * number,
                "accuracy": value,
                "answers_per_class": [number, 0],
                "detectors": {
                    "p_clean": {"auroc": value, "calibration_error": None},
                    "margin": {"auroc": None, "calibration_error": None},
                },
            }
            for number, value in enumerate(accuracy)
        ]

    lines = {
        "paper": {"0": rows(0.5, 0.7), "1": rows(0.5, 0.9)},
        "random": {"0": rows(0.5, 0.65), "1": rows(0.5, 0.75)},
    }
    summary = simulation_report.summarize(
        {"levels": {"zero-shot": 0.4, "CoFT": None}, "lines": lines}
    )
    found = summary["lines"]["paper"]
    assert found["mean"] == pytest.approx([0.5, 0.8])
    assert found["spread"] == pytest.approx([0.0, 0.1 * 2**0.5])
    assert found["area"] == pytest.approx(0.65)
    assert found["empty_classes"] == [2, 1]
    assert summary["levels"] == {"zero-shot": 0.4}
    assert found["over_random"]["mean"] == pytest.approx([0.0, 0.1])
    assert found["over_random"]["spread"] == pytest.approx([0.0, 0.05 * 2**0.5])
    assert "over_random" not in summary["lines"]["random"]
    said = simulation_report.lines(summary)
    assert "paper above random, points by seed: +0.0 ± 0.0, +10.0 ± 7.1" in said
    assert any(line.endswith("margin unknown") for line in said)
    assert simulation_report.table(summary)[1] == [
        "paper",
        "0.500 ± 0.000",
        "0.800 ± 0.141",
        "0.6500",
    ]
    page = simulation_report.page(summary, title="<b>", command="coft & co")
    assert "&lt;b&gt;" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
