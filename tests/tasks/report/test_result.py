"""Headline, health and mistakes, as the page shows them."""

from dataclasses import fields

import pytest

from clipcore.health import Health
from tasks.report import words
from tasks.report.result import title
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import Run, page_of, percent


def test_health_is_shown_with_its_meaning(run: Run) -> None:
    inputs = run.inputs()
    rows = {row[0]: row[1:] for row in page_of(inputs).table("Sign", "Value", "What it means")}
    assert len(rows) == len(fields(Health))
    for key, value in inputs.model.health.items():
        quantity = words.HEALTH[key]
        text, meaning = rows[quantity.name]
        assert meaning == quantity.meaning != ""
        if quantity.is_share:
            assert text == percent(value)


def test_class_that_is_never_predicted_is_named(run: Run) -> None:
    run.predict = lambda _, truth: 0 if truth == 3 else truth
    page = page_of(run.inputs())
    assert "Never predicted: cross." in page.prose.replace(" .", ".")
    row = next(row for row in page.table("Class", "Recall, zero-shot") if row[0] == "cross")
    assert row[7] == "\N{EN DASH}"


def test_a_perfect_model_makes_no_mistake(usual: Page) -> None:
    assert "No mistake was made on these images." in usual.prose


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ("photos", "photos"),
        ("/data/photos/", "photos"),
        ("s3://bucket/cats/*.jpg", "cats"),
        ("folder/digits.parquet", "digits"),
        ("*.png", "images"),
    ],
)
def test_the_title_names_the_images(run: Run, images: str, name: str) -> None:
    inputs = run.inputs()
    pool = inputs.spec.pool.model_copy(update={"images": images})
    spec = inputs.spec.model_copy(update={"pool": pool})
    assert title(inputs.model_copy(update={"spec": spec})) == f"CLIP adapted to {name}"
