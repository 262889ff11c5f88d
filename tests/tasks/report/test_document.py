"""The report: numbers are those that were measured, text is escaped, nothing is fetched."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tasks.report.document import summary_markdown, write_report
from tasks.report.gallery import MAX_THUMBNAILS
from tasks.report.inputs import Registered
from tasks.specs import RuntimeSpec
from tasks.storage.files import read_json
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import CLASSES, Pictures, Run, draw_pictures, page_of, percent

MINUS = "\N{MINUS SIGN}"


def test_numbers_are_those_of_the_metrics_sorted_by_change(run: Run) -> None:
    run.predict = lambda index, truth: truth if index % 5 else 0
    inputs = run.inputs()
    metrics = read_json(str(Path(inputs.evaluation.uri, "metrics.json")))
    page = page_of(inputs)

    for part in ("zero_shot", "phase1", "adapted"):
        assert percent(metrics[part]["accuracy"]) in page.prose
    gain = metrics["adapted"]["accuracy"] - metrics["zero_shot"]["accuracy"]
    assert f"{100 * gain:+.1f}".replace("-", MINUS) in page.prose

    rows = {row[0]: row for row in page.table("Class", "Recall, zero-shot")}
    assert set(rows) == set(CLASSES)
    for name, (_, before, after, _, _, predicted, truth, precision, _) in rows.items():
        old, new = (metrics[part]["per_class"][name] for part in ("zero_shot", "adapted"))
        assert (before, after) == (percent(old["recall"]), percent(new["recall"]))
        assert (predicted, truth) == (str(new["num_predicted"]), str(new["num_images"]))
        assert precision == percent(new["precision"])
    changes = [float(row[3].replace(MINUS, "-")) for row in rows.values()]
    assert changes == sorted(changes, reverse=True)


def test_accuracies_are_shares_of_right_labels(run: Run) -> None:
    run.predict = lambda index, truth: truth if index % 4 else (truth + 1) % len(CLASSES)
    inputs = run.inputs()
    pairs = list(zip(run.predicted(), run.pictures.truths, strict=True))
    share = sum(predicted == truth for predicted, truth in pairs) / len(pairs)
    assert f"| Adapted | {percent(share)} |" in summary_markdown(inputs)
    assert percent(share) in page_of(inputs).prose


def test_one_file_needs_nothing_from_outside(usual: Page) -> None:
    for _, attrs in usual.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:"))
    assert not usual.all("script")
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", usual.text)


def test_every_picture_has_words_and_every_table_can_scroll(usual: Page) -> None:
    assert all(image["alt"].strip() for image in usual.all("img"))
    regions = [attrs for attrs in usual.all("div") if attrs.get("class") == "scroll"]
    assert len(regions) == len(usual.tables)
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    levels = [int(tag[1]) for tag, _ in usual.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in usual.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in usual.all("a")} <= set(ids)


def test_class_and_file_names_are_escaped(run: Run) -> None:
    run.classes = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$a_b$", "a & b")
    run.predict = lambda index, truth: truth if index % 5 else 1
    inputs = run.inputs()
    model = inputs.model.model_copy(update={"healthy": False, "verdict": "<b>bold</b>"})
    page = page_of(inputs.model_copy(update={"model": model}))
    assert not page.all("script")
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "<b>bold</b>" in page.prose
    assert "<b>bold" not in page.text
    assert {row[0] for row in page.table("Class", "Recall, zero-shot")} == set(run.classes)
    assert "the end <b> is missing" in page.prose


def test_without_labels_accuracy_is_unknown(run: Run) -> None:
    run.labeled = False
    inputs = run.inputs()
    page = page_of(inputs)
    assert "Accuracy is unknown" in page.prose
    assert "in truth" not in page.text
    assert "✓ right" not in page.prose
    rows = page.table("Class", "Share of images, zero-shot", "adapted", "Change, points")
    assert sum(int(row[5]) for row in rows) == len(run.pictures.ids)
    assert "No labels were given" in summary_markdown(inputs)


def test_zero_shot_run_has_no_peers_and_one_accuracy(run: Run) -> None:
    run.adapted = False
    inputs = run.inputs()
    metrics = read_json(str(Path(inputs.evaluation.uri, "metrics.json")))
    assert metrics["adapted"], "the evaluation measures the model twice"
    page = page_of(inputs)
    assert "nothing was trained" in page.prose
    assert "Adapted" not in page.prose
    assert "After" not in page.prose
    titles = {attrs.get("id") for attrs in page.all("section")}
    assert "training" not in titles
    assert {"classes", "mistakes", "kept", "map", "time"} <= titles


def test_unhealthy_model_is_named_and_not_recommended(run: Run) -> None:
    run.predict = lambda _, truth: truth % 2  # two classes disappear
    run.registered = Registered(uri="models:/shapes/3", version="3")
    inputs = run.inputs()
    assert not inputs.model.healthy
    for text in (page_of(inputs).prose, summary_markdown(inputs)):
        assert "Do not use this model" in text
        assert "2 classes are hardly ever predicted any more" in text
        assert "models:/shapes/3" in text


def test_a_loss_against_zero_shot_is_told_even_if_the_gate_allows_it(run: Run) -> None:
    run.predict = lambda _, truth: (truth + 1) % 4
    inputs = run.inputs()
    allowed = inputs.model.model_copy(update={"healthy": True})
    assert "Worse than before" in page_of(inputs.model_copy(update={"model": allowed})).prose


def test_second_report_is_found_written(run: Run) -> None:
    inputs, runtime = run.inputs(), RuntimeSpec(workspace=str(run.folder))
    first = write_report(inputs, runtime)
    second = write_report(inputs, runtime)
    assert (first.resumed, second.resumed) == (False, True)
    assert first.uri == second.uri


def test_equal_inputs_give_equal_bytes(run: Run) -> None:
    inputs = run.inputs()
    one, two = (write_report(inputs, RuntimeSpec(workspace=str(run.folder / at))) for at in "ab")
    assert Path(one.uri, "report.html").read_bytes() == Path(two.uri, "report.html").read_bytes()


def test_many_classes_stay_readable_and_small(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    classes = tuple(f"class {i:03d} with a long name" for i in range(250))
    run = make_run(classes=classes, pictures=draw_pictures(tmp_path / "images", 250, 1))
    run.predict = lambda index, truth: truth if index % 4 else (truth + 1) % 250
    page = page_of(run.inputs())
    assert 20 < len(page.photos()) <= MAX_THUMBNAILS
    assert len(page.text) < 3_000_000
    assert len(page.table("Class", "Recall, zero-shot")) == 200
    assert len(page.table("True class", "Taken for")) == 12


@pytest.mark.parametrize("adapted", [True, False])
def test_empty_pool_renders(make_run: Callable[..., Run], *, adapted: bool) -> None:
    run = make_run(pictures=Pictures(), labeled=False, num_bad=0, adapted=adapted)
    inputs = run.inputs().model_copy(update={"stages": ()})
    assert "No times were recorded." in page_of(inputs).prose
