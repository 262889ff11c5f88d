"""What is removed is what no finished run refers to, and what is at work stays."""

import os
import time
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from tasks.query.sandbox import run_sql
from tasks.specs import InputError
from tasks.storage.clean import describe, find_unused, is_at_work, remove_files
from tasks.storage.files import write_bytes, write_json
from tasks.storage.uris import join, open_filesystem
from tests.worlds.workspace import Made, write_embeddings, write_labels, write_workspace

DAY = 24 * 3600
UNUSED = {
    "embeddings/" + "e" * 16 + "/part-0000-ffff-orphaned.parquet",
    "embeddings/" + "e" * 16 + "/runs/killed/unreadable/part-00-11-x.parquet",
    "embeddings/nobody/part-0000-ffff-feedfeed.parquet",
    "labels/" + "a" * 16 + "/part-00-11-stale.parquet",
    "labels/" + "a" * 16 + "/said/part-00-11-x.parquet",
    "labels/" + "a" * 16 + "/.feed.partial",
    "labels/unfinished/part-00-11-x.parquet",
    "listing/new-feed.parquet",
    "peers/killed/resume.safetensors",
}
KEPT = {
    "listing/part-00-11-x.parquet",
    "embeddings/nobody/quarantine/part-00-11-x.parquet",
    "answers/feed.parquet",
    "reports/feed/report.html",
    "rounds/photos/round-00/learner/weights.safetensors",
    "models/copied/model.json",
    "models/copied/member-1.safetensors",
    "mlflow.db",
}


def put(workspace: str, names: set[str]) -> None:
    for name in names:
        write_bytes(join(workspace, name), b"some bytes")


def age(workspace: Path, seconds: float = 2 * DAY) -> None:
    then = time.time() - seconds
    for path in workspace.rglob("*"):
        os.utime(path, (then, then))


def stages_in(workspace: str) -> set[str]:
    """Return the folders of the finished stages, and those of runs beside embeddings."""
    filesystem, home = open_filesystem(workspace)
    manifests = [name for name in filesystem.find(home) if name.endswith("/manifest.json")]
    folders = {name.partition(f"{home}/")[2].rpartition("/")[0] for name in manifests}
    return {folder for folder in folders if not folder.endswith("/quarantine")}


def end_run(workspace: str) -> None:
    """Write down that a run went through all that is there."""
    record = {"stages": sorted(stages_in(workspace))}
    assert len(record["stages"]) == 7
    write_json(join(workspace, "finished", "feed.json"), record)


@pytest.fixture
def filled(tmp_path: Path) -> Made:
    """Return a finished workspace with what commands of before have left in it, two days old."""
    made = write_workspace(str(tmp_path))
    end_run(made.uri)
    put(made.uri, UNUSED | KEPT)
    age(tmp_path)
    return made


def names_of(workspace: Path) -> set[str]:
    return {
        path.relative_to(workspace).as_posix() for path in workspace.rglob("*") if path.is_file()
    }


def test_what_no_finished_run_refers_to_is_found_and_nothing_else(filled: Made) -> None:
    assert {file.name for file in find_unused(filled.uri)} == UNUSED


def test_after_removing_all_questions_have_the_same_answers(filled: Made, tmp_path: Path) -> None:
    views = ("images", "quarantine", "embeddings", "labels", "predictions")
    answers = {view: run_sql(filled.uri, f"from {view} order by all") for view in views}
    before = names_of(tmp_path)
    unused = find_unused(filled.uri)
    assert names_of(tmp_path) == before, "nothing is removed before it is asked for"
    remove_files(filled.uri, unused)
    assert names_of(tmp_path) == before - UNUSED
    assert not (tmp_path / "labels" / "unfinished").exists()
    assert find_unused(filled.uri) == []
    assert {view: run_sql(filled.uri, f"from {view} order by all") for view in views} == answers


def test_a_run_that_is_at_work_is_seen_by_what_it_writes(filled: Made, tmp_path: Path) -> None:
    assert not is_at_work(find_unused(filled.uri), hours=24)
    put(filled.uri, {"reports/more/report.html", "labels/" + "a" * 16 + "/manifest.json.old"})
    assert not is_at_work(find_unused(filled.uri), hours=24), "that belongs to a run that ended"
    put(filled.uri, {"peers/training/resume.safetensors"})
    assert is_at_work(find_unused(filled.uri), hours=24)
    age(tmp_path, 3 * 3600)
    assert is_at_work(find_unused(filled.uri), hours=24)
    assert not is_at_work(find_unused(filled.uri), hours=1)


def test_features_stay_as_long_as_a_run_has_them(filled: Made, tmp_path: Path) -> None:
    write_embeddings(filled.uri, "f" * 16, filled.ids, filled.vectors, images=filled.ids[:16])
    store = {name for name in names_of(tmp_path) if name.startswith("embeddings/f")}
    write_json(join(filled.uri, "finished", "more.json"), {"stages": sorted(stages_in(filled.uri))})
    assert not store & {file.name for file in find_unused(filled.uri)}
    (tmp_path / "finished" / "more.json").unlink()
    found = {file.name for file in find_unused(filled.uri)}
    assert found == UNUSED | store


def test_a_stage_belongs_to_the_runs_that_ended(filled: Made, tmp_path: Path) -> None:
    write_labels(filled.uri, "9" * 16, "zero-shot", filled.ids, filled.labels)
    of_run = {name for name in names_of(tmp_path) if name.startswith("labels/9")}
    assert of_run
    assert {file.name for file in find_unused(filled.uri)} == UNUSED | of_run
    assert is_at_work(find_unused(filled.uri), hours=24)
    write_json(join(filled.uri, "finished", "more.json"), {"stages": ["labels/" + "9" * 16]})
    assert {file.name for file in find_unused(filled.uri)} == UNUSED


def test_what_a_begun_run_has_noted_goes_with_its_stages(filled: Made, tmp_path: Path) -> None:
    steps = {"label": ["labels/" + "a" * 16]}
    write_json(join(filled.uri, "begun", "ended.json"), {"steps": steps})
    more = {**steps, "phase 1": ["peers/killed"]}
    write_json(join(filled.uri, "begun", "killed.json"), {"steps": more})
    age(tmp_path)
    assert {file.name for file in find_unused(filled.uri)} == UNUSED | {"begun/killed.json"}


def test_a_bucket_too(filled: Made) -> None:
    place = f"memory://{uuid4().hex}/w"
    write_workspace(place)
    end_run(place)
    put(place, UNUSED | KEPT)
    assert {file.name for file in find_unused(place)} == UNUSED
    remove_files(place, find_unused(place))
    left = fsspec.filesystem("memory").find(place)
    assert not [name for name in left if name.endswith("orphaned.parquet")]
    assert find_unused(place) == []


def test_the_amounts_are_said(filled: Made) -> None:
    lines = describe(find_unused(filled.uri))
    assert [line.split()[:2] for line in lines] == [
        ["embeddings", "3"],
        ["labels", "4"],
        ["listing", "1"],
        ["peers", "1"],
        ["in", "all"],
    ]


def test_no_workspace_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a workspace, found nothing"):
        find_unused(str(tmp_path / "nowhere"))
