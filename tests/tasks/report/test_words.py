"""The report has words for exactly what is written: no key without a writer, no writer unknown."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

import clipcore
import tasks
from clipcore.health import Health
from tasks.images.quarantine import TOO_LARGE, UNREADABLE
from tasks.publish import _stage_times
from tasks.refs import PeerRef, Reason, StageName
from tasks.report import words
from tasks.report.read_stages import read_histories
from tasks.specs import CoftSpec, PoolSpec
from tests.tasks.report.made_run import Run


def test_health_words_are_those_of_the_fields() -> None:
    assert set(words.HEALTH) == {field.name for field in fields(Health)}


def test_history_words_are_those_of_a_real_training(peers: tuple[PeerRef, ...]) -> None:
    rows = read_histories(peers)
    assert {(row["phase"], row["peer"]) for row in rows} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    of_plus = {"cross_entropy", "consistency", "contrast", "round"}  # tests/flows/test_coft_plus.py
    assert {key for row in rows for key in row} | of_plus == {*words.HISTORY, *words.NOT_DRAWN}
    assert not set(words.HISTORY) & set(words.NOT_DRAWN)


def test_stage_words_are_those_of_the_times_of_a_run(run: Run) -> None:
    inputs = run.inputs()
    assert inputs.predictions is not None
    times = _stage_times(run.stages(), inputs.predictions, inputs.evaluation, inputs.model)
    assert [stage.name for stage in times] == list(StageName) == list(words.STAGES)


def test_reason_words_are_those_of_labels() -> None:
    assert set(words.REASONS) == set(Reason)


def test_quarantine_words_are_those_of_bad_images() -> None:
    written = {UNREADABLE, TOO_LARGE, *_reasons_of_bad_images()}
    assert set(words.QUARANTINE_REASONS) == written


def _reasons_of_bad_images() -> set[str]:
    """Return the first argument of every `BadImage(...)` in the code that writes it out."""
    calls = [
        node
        for package in (clipcore, tasks)
        for path in Path(package.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("BadImage")
    ]
    reasons = [call.args[0] for call in calls]
    return {ast.literal_eval(reason) for reason in reasons if isinstance(reason, ast.Constant)}


@pytest.mark.parametrize("name", list(StageName))
def test_advice_names_options_that_exist(name: StageName) -> None:
    advice = words.STAGES[name].advice.replace(",", " ").split()
    for option in (word.removeprefix("--") for word in advice if word.startswith("--")):
        spec: object = CoftSpec(pool=PoolSpec(images="x"))
        path = option.replace("-", "_").split(".")
        for field in path if len(path) > 1 else ["runtime", *path]:
            assert isinstance(spec, BaseModel)
            assert field in type(spec).model_fields, option
            spec = getattr(spec, field)


def test_what_another_version_wrote_is_spelled_out() -> None:
    assert words.reason("some-reason") == "some reason"
    assert words.quarantine_reason("some-reason") == "some reason"
    assert words.epoch_quantity("new_loss") == words.Quantity("New loss", "")
    with pytest.raises(KeyError):
        words.HEALTH["new_sign"]


def test_sources_are_named_as_a_person_would() -> None:
    slugs = ("peer-1", "zero-shot", "confident", "confident-round-2-peer-1")
    named = ["Peer 1", "Zero-shot", "Confident set", "Confident set, round 2 peer 1"]
    assert [words.source(slug) for slug in slugs] == named
