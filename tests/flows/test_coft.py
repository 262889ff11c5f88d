"""The main job end to end, on drawn images and a tiny CLIP: twice, killed, and on bad input."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest

from flows.coft import coft
from infra import interrupts
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import Reason, RunSummary
from tasks.specs import (
    AdapterSpec,
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    Phase1Spec,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.storage.manifest import iter_tables
from tests.worlds.images import COLOURS, PER_CLASS, write_images
from tests.worlds.processes import Family, wait_for

SPLITS = ("pool", "test")

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(1200),
]


def _spec(images: Path, workspace: Path, clip: Path, **changes: object) -> CoftSpec:
    values: dict[str, object] = {
        "pool": PoolSpec(images=str(images), labels="column", rows_per_shard=16),
        "backbone": BackboneSpec(name=f"local-dir:{clip}"),
        "label": LabelSpec(top=TopSpec(per_class=4, min_total=0)),
        "phase1": Phase1Spec(
            epochs=30, min_steps=0, batch_size=8, adapter=AdapterSpec(num_visual_prompts=2)
        ),
        "phase2": Phase2Spec(epochs=2, batch_size=8, holdout=0.3),
        "runtime": RuntimeSpec(workspace=str(workspace)),
        "register_as": "colours",
        "answers": str(images.with_name("answers.csv")),
        **changes,
    }
    return CoftSpec.model_validate(values)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: str,
) -> tuple[Path, Path, RunSummary]:
    """Run once; return (images, workspace, summary)."""
    folder = tmp_path_factory.mktemp("coft")
    images, place = write_images(folder), folder / "workspace"
    _answer(images, place, tiny_clip)
    return images, place, coft(_spec(images, place, tiny_clip))


def _answer(images: Path, workspace: Path, clip: Path) -> None:
    """Label a few images beside the Parquet file, one of each split, as a person would."""
    spec = _spec(images, workspace, clip)
    refs = open_images.fn(spec.pool, spec.runtime)
    labels = pa.concat_tables(iter_tables(open_task.fn(refs, spec.pool, spec.runtime).uri))
    chosen = [labels.filter(pc.equal(labels["split"], split)).slice(0, 3) for split in SPLITS]
    pacsv.write_csv(
        pa.concat_tables(chosen).select(["image_id", "label"]), images.with_name("answers.csv")
    )


def test_a_run_gives_a_registered_model_and_a_second_one_computes_nothing(
    whole: tuple[Path, Path, RunSummary], tiny_clip: Path
) -> None:
    images, workspace, first = whole
    assert first.num_images == 3 * PER_CLASS
    assert first.num_quarantined == 0
    assert first.accuracy is not None
    assert set(first.per_class) == set(COLOURS)
    assert first.model_version == "1"
    assert first.num_answers == 3
    assert "labels that people gave to 3" in Path(first.report).read_text()
    assert (Path(first.report)).stat().st_size > 10_000
    _check_rows(workspace)

    assert len([*workspace.glob("evaluations/*/ahead.json")]) == 1

    before = _modified(workspace)
    second = coft(_spec(images, workspace, tiny_clip))
    assert _without_run(second) == _without_run(first)
    changed = {path for path, when in _modified(workspace).items() if before.get(path) != when}
    assert not [path for path in changed if path.suffix in {".parquet", ".safetensors"}]
    assert not [path for path in changed if path.name == "ahead.json"]


def test_zero_shot_alone_is_a_model_too(images: Path, workspace: Path, tiny_clip: Path) -> None:
    default = {"label": LabelSpec(), "phase1": Phase1Spec(), "phase2": Phase2Spec()}
    settings = {"method": "zero-shot", "answers": None, **default}
    summary = coft(_spec(images, workspace, tiny_clip, **settings))
    assert summary.accuracy == pytest.approx(summary.zero_shot_accuracy, abs=0.05)  # bf16 or not
    assert summary.verdict.startswith("Zero-shot")


def test_a_command_that_is_stopped_in_training_is_taken_up_and_arrives_at_the_same(
    whole: tuple[Path, Path, RunSummary], tmp_path: Path, tiny_clip: Path
) -> None:
    images, workspace, expected = whole
    place, family = tmp_path / "stopped", Family()
    with _adapt(images, place, tiny_clip, family) as stopped:
        wait_for(place, "peers/*/resume.safetensors", stopped)
        assert len(family.alive()) > 3
        stopped.terminate()
        _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert said.strip().splitlines()[-1] == interrupts.WORDS
    assert "***" not in said, "Ray would print the stacks of its threads"
    assert family.survivors() == []
    before = _modified(place)
    found = coft(_spec(images, place, tiny_clip))
    finished = {path: when for path, when in before.items() if path.suffix == ".parquet"}
    assert len(finished) > 3
    assert all(_modified(place)[path] == when for path, when in finished.items())
    assert len(list((place / "peers").glob("*/history.json"))) == 4, "two of each phase"
    assert found.accuracy == expected.accuracy
    assert found.per_class == expected.per_class
    assert _ids(place) == _ids(workspace)
    assert _weights(place) == _weights(workspace)


@contextmanager
def _adapt(
    images: Path, workspace: Path, clip: Path, family: Family
) -> Iterator[subprocess.Popen[str]]:
    """Run the command with the settings of `_spec`; nothing of it outlives the block."""
    words = ["adapt", "--images", images, "--labels", "column", "--workspace", workspace]
    words += ["--backbone", f"local-dir:{clip}", "--rows-per-shard", "16"]
    words += ["--answers", images.with_name("answers.csv")]
    words += ["--label.top.per-class", "4", "--label.top.min-total", "0"]
    words += ["--phase1.epochs", "30", "--phase1.min-steps", "0", "--phase1.batch-size", "8"]
    words += ["--phase1.adapter.num-visual-prompts", "2", "--register", "colours"]
    words += ["--phase2.epochs", "2", "--phase2.batch-size", "8", "--phase2.holdout", "0.3"]
    code = "from flows.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=family.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def _ids(workspace: Path) -> list[str]:
    (folder,) = (workspace / "predictions").iterdir()
    tables = iter_tables(str(folder), ["image_id"])
    return [image for table in tables for image in table["image_id"].to_pylist()]


def _weights(workspace: Path) -> dict[str, bytes]:
    files = (workspace / "models").glob("*/*.safetensors")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def _check_rows(workspace: Path) -> None:
    """Every stage has each image once, and what was rejected has a reason."""
    ids = _ids(workspace)
    assert len(ids) == len(set(ids)) == 3 * PER_CLASS
    for folder in (workspace / "labels").iterdir():
        table = pa.concat_tables(iter_tables(str(folder)))
        source = table["source"][0].as_py()
        rows = 3 * PER_CLASS if source == "zero-shot" else 3 * PER_CLASS * 3 // 4
        assert table.num_rows == len(set(table["image_id"].to_pylist())) == rows
        for row in table.to_pylist():
            assert row["kept"] or row["reason"], f"{source} rejected {row} without a reason"
        answered = pc.sum(pc.equal(table["reason"], Reason.ANSWERED)).as_py()
        assert answered == (0 if source == "zero-shot" else 3), "of the pool split, in both phases"


def _modified(workspace: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}


def _without_run(summary: RunSummary) -> dict[str, object]:
    found = json.loads(summary.model_dump_json())
    for name in ("run_id", "report", "model_version", "model_uri"):
        found.pop(name)
    return found
