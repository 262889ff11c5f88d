"""CoFT+ end to end, on drawn images and a tiny CLIP: its rounds, its contrast, killed, in parts."""

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipcore.checkpoint import read
from flows.coft import coft
from tasks.specs import (
    AdapterSpec,
    BackboneSpec,
    CoftSpec,
    ConsistencySpec,
    ContrastSpec,
    InputError,
    LabelSpec,
    NeighboursSpec,
    Phase1Spec,
    Phase2Spec,
    PlusSpec,
    PoolSpec,
    RuntimeSpec,
    SentencesSpec,
    TopSpec,
)
from tasks.storage.manifest import iter_tables
from tasks.tracking.store import EXPERIMENT, connect, tracking_for
from tests.worlds.clip import write_tiny_clip
from tests.worlds.images import write_images
from tests.worlds.kills import Ended, Runs

OFF = PlusSpec(
    rounds=0,
    neighbours=NeighboursSpec(k=0),
    contrast=ContrastSpec(weight=0),
)
PLAIN = SentencesSpec(synonyms=False)

pytestmark = [pytest.mark.usefixtures("prefect_session"), pytest.mark.timeout(600)]


@dataclass
class Place:
    """Where images and settings are, and what a whole run wrote."""

    root: Path
    clip: Path
    runs: Runs
    writes: list[str] = field(default_factory=list)

    def spec(self, name: str, **changes: object) -> CoftSpec:
        values: dict[str, object] = {
            "method": "coft-plus",
            "pool": PoolSpec(
                images=str(self.root / "images.parquet"), labels="column", rows_per_shard=32
            ),
            "backbone": BackboneSpec(name=f"local-dir:{self.clip}"),
            "label": LabelSpec(top=TopSpec(per_class=4, min_total=0)),
            "phase1": Phase1Spec(
                epochs=2, min_steps=0, batch_size=8, adapter=AdapterSpec(num_visual_prompts=2)
            ),
            "phase2": Phase2Spec(epochs=2, batch_size=8, holdout=0),
            "plus": PlusSpec(
                rounds=1,
                neighbours=NeighboursSpec(rounds=2),
                contrast=ContrastSpec(queue_size=16),
                consistency=ConsistencySpec(weight=1),
            ),
            "runtime": RuntimeSpec(workspace=str(self.root / name)),
            "register_as": "colours",
            **changes,
        }
        return CoftSpec.model_validate(values)

    def run(self, name: str, kill_at: int = 0, **changes: object) -> Ended:
        spec = self.spec(name, **changes)
        return self.runs.run(spec, summary=self.root / f"{name}.json", kill_at=kill_at)

    def summary(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / f"{name}.json").read_text())
        return found

    def labels(self, name: str) -> dict[str, pa.Table]:
        """Return the labellings of a workspace by their source."""
        tables = [
            pa.concat_tables(iter_tables(str(folder)))
            for folder in (self.root / name / "labels").iterdir()
        ]
        return {table["source"][0].as_py(): table for table in tables}

    def weights(self, name: str) -> dict[str, bytes]:
        """Return the files of the models of a run, one for each round of Phase II."""
        files = (self.root / name / "models").glob("*/*.safetensors")
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path, runs: Runs) -> Place:
    root = tmp_path_factory.mktemp("plus")
    write_images(root)
    place = Place(root, tiny_clip, runs)
    ended = place.run("whole")
    assert ended.status == 0
    place.writes += ended.writes
    return place


def test_a_run_has_rounds_contrast_and_a_registered_model(place: Place) -> None:
    summary = place.summary("whole")
    assert summary["method"] == "coft-plus"
    assert summary["model_version"] == "1"
    assert summary["accuracy"] is not None
    metrics = _metrics(place.root / "whole")
    assert {f"phase1/peer{n}/loss" for n in (1, 2)} < metrics
    assert {f"phase1/peer{n}/round1/loss" for n in (1, 2)} < metrics
    assert {f"phase2/peer{n}/contrast" for n in (1, 2)} < metrics
    assert {f"phase2/peer{n}/consistency" for n in (1, 2)} < metrics
    assert {f"phase2/peer{n}/round1/loss" for n in (1, 2)} < metrics
    report = Path(summary["report"]).read_text()
    assert "Phase I, further round 1" in report
    assert "Phase II, further round 1" in report
    assert "Labels by neighbours, round 1" in report
    assert "1 time more, each learned anew" in report
    assert "Contrast" in report
    assert "Chosen for the first labels: " in report


def test_each_peer_starts_a_round_from_the_labels_of_which_it_was_surest(place: Place) -> None:
    labels = place.labels("whole")
    rounds = [f"{kind}round-1-peer-{peer}" for kind in ("", "confident-") for peer in (1, 2)]
    by_neighbours = ("neighbours", "neighbours-round-1")
    assert set(labels) == {"zero-shot", "confident", *rounds, *by_neighbours, "peer-1", "peer-2"}
    for peer in (1, 2):
        said = {row["image_id"]: row for row in labels[f"round-1-peer-{peer}"].to_pylist()}
        chosen = labels[f"confident-round-1-peer-{peer}"].to_pylist()
        by_class: dict[str, list[float]] = {}
        left_out: dict[str, list[float]] = {}
        for row in chosen:
            if row["reason"] == "class-not-predicted":
                continue
            assert row["label"] == said[row["image_id"]]["label"]
            groups = by_class if row["kept"] else left_out
            groups.setdefault(row["label"], []).append(row["confidence"])
        assert by_class
        for name, confidences in by_class.items():
            assert len(confidences) <= 4
            assert min(confidences) >= max(left_out.get(name, [0.0]))


def test_a_run_that_is_killed_between_the_epochs_of_phase_2_arrives_at_the_same(
    place: Place,
) -> None:
    """The encoder of keys and the queue go on as they were."""
    checkpoints = [
        number for number, what in enumerate(place.writes, 1) if what.endswith("resume.safetensors")
    ]
    after_an_epoch = checkpoints[-3] + 1
    assert place.run("killed", kill_at=after_an_epoch).status == -signal.SIGKILL
    kept = list((place.root / "killed").glob("peers/*/resume.safetensors"))
    assert len(kept) == 2, "of both networks"
    for path in kept:
        names = " ".join(read(str(path))[0])
        assert "contrast.queue" in names
        assert "contrast.encoder" in names
        assert "consistency.teacher" in names
    assert place.run("killed").status == 0
    assert place.weights("killed") == place.weights("whole")
    assert place.summary("killed")["per_class"] == place.summary("whole")["per_class"]


def test_with_all_of_it_switched_off_it_is_coft(place: Place) -> None:
    assert place.run("off", plus=OFF, sentences=PLAIN).status == 0
    assert place.run("coft", method="coft", plus=PlusSpec()).status == 0
    assert place.weights("off") == place.weights("coft")
    assert place.weights("off") != place.weights("whole")


def test_subsets_may_be_crossed_and_what_people_answered_is_in_all_of_them(place: Place) -> None:
    answers = place.root / "answers.csv"
    pool = place.labels("whole")["confident"].to_pylist()[:3]
    answers.write_text("\n".join(["image_id,label", *(f"{row['image_id']},red" for row in pool)]))
    crossed = OFF.model_copy(update={"rounds": 1, "subsets": "crossed"})
    assert place.run("crossed", plus=crossed, answers=str(answers)).status == 0
    assert place.summary("crossed")["num_answers"] == 3
    for source, table in place.labels("crossed").items():
        answered = [row for row in table.to_pylist() if row["reason"] == "answered"]
        if source.startswith(("confident", "peer")):
            assert [row["label"] for row in answered] == ["red"] * 3, source


def test_a_student_learns_from_the_labels_of_another_backbone(place: Place) -> None:
    student = write_tiny_clip(place.root / "student", seed=1, embed_dim=16)
    spec = BackboneSpec(name=f"local-dir:{student}")
    assert place.run("taught", student=spec, plus=OFF).status == 0
    (description,) = (place.root / "taught").glob("models/*/model.json")
    assert json.loads(description.read_text())["config"]["embed_dim"] == 16
    assert place.summary("taught")["accuracy"] is not None


def test_a_flow_refuses_the_method_of_another(place: Place) -> None:
    with pytest.raises(InputError, match=r"got coft-plus\. The flow flows/adapt\.py runs any"):
        coft.fn(place.spec("refused"))


def _metrics(workspace: Path) -> set[str]:
    tracking = tracking_for(str(workspace))
    client = connect(tracking)
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    connect.cache_clear()
    return set(run.data.metrics)
