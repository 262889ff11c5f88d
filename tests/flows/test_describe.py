"""Captions end to end on a tiny language model: learned, written, measured, registered, resumed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcore.libra.language import load
from flows.coft import coft
from flows.describe import describe
from tasks.describe.captions import CAPTIONS, PROMPTS
from tasks.describe.publish import DescribeSummary
from tasks.describe.specs import CaptionTrainingSpec, DescribeSpec, LanguageSpec, VisionSpec
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    InputError,
    LabelSpec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.storage.tables import read_facts
from tasks.tracking.store import connect, tracking_for
from tests.tasks.read_page import Page
from tests.worlds.cluster import program
from tests.worlds.images import COLOURS, PER_CLASS, write_images
from tests.worlds.libra_model import write_language
from tests.worlds.processes import Family, wait_for

TEMPLATE = "A photo of the {}."

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def spec_of(folder: Path, clip: Path, **changes: Any) -> DescribeSpec:
    usual: dict[str, Any] = {
        "pool": PoolSpec(images=str(folder / "images.parquet"), labels="column", rows_per_shard=16),
        "llm": LanguageSpec(name=f"local-dir:{folder / 'language'}"),
        "backbone": BackboneSpec(name=f"local-dir:{clip}"),
        "label": LabelSpec(top=TopSpec(per_class=8, min_total=0)),
        "vision": VisionSpec(side=2, rank=8, first=1),
        "training": CaptionTrainingSpec(steps=12, batch_size=8, learning_rate=1e-2),
        "prompts": ("This picture shows a",),
        "register_as": "words",
        "runtime": RuntimeSpec(workspace=str(folder / "workspace")),
    }
    return DescribeSpec.model_validate({**usual, **changes})


def captions_of(found: DescribeSummary) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in Path(found.captions).glob("*.parquet"))


@pytest.fixture(scope="module")
def described(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: None,
) -> tuple[Path, DescribeSummary]:
    """Describe images of three colours; a language model lies beside them."""
    folder = tmp_path_factory.mktemp("describe")
    write_images(folder)
    write_language(folder / "language", tokens=("Ġthe", "Ġred", "Ġgreen", "Ġblue"))
    return folder, describe(spec_of(folder, tiny_clip, confused=True))


def test_each_image_has_a_row_with_both_opinions(described: tuple[Path, DescribeSummary]) -> None:
    _, found = described
    rows = captions_of(found)
    assert rows.schema.equals(CAPTIONS)
    assert rows.num_rows == found.num_images == PER_CLASS * len(COLOURS)
    assert set(rows["label"].to_pylist()) <= set(COLOURS)
    for row in rows.to_pylist():
        assert row["caption"].startswith("A photo of the")
        assert row["said"][0].startswith("This picture shows a")
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert max(row["probabilities"]) == row["confidence"]
        assert 0 < row["caption_confidence"] <= 1
        assert row["differs"] == (row["label"] != row["classifier_label"])
    assert found.num_differing == sum(rows["differs"].to_pylist())


def test_prompts_stand_in_the_metadata(described: tuple[Path, DescribeSummary]) -> None:
    _, found = described
    for path in Path(found.captions).glob("*.parquet"):
        assert json.loads(read_facts(str(path))[PROMPTS]) == ["This picture shows a"]


def test_what_is_measured_is_what_the_rows_say(described: tuple[Path, DescribeSummary]) -> None:
    folder, found = described
    truth = {
        Path(f"{folder / 'images.parquet'}#{number}").name: row
        for number, row in enumerate(pq.read_table(folder / "images.parquet").to_pylist())
    }
    rows = [
        (row, truth[row["uri"].rpartition("/")[2]]["label"])
        for row in captions_of(found).to_pylist()
        if row["split"] == "test"
    ]
    measured = found.measured
    assert measured is not None
    assert measured.on_test
    assert measured.num_images == len(rows) == PER_CLASS * len(COLOURS) // 4
    right = [row["label"] == label for row, label in rows]
    classified = [row["classifier_label"] == label for row, label in rows]
    said = [row["caption"] == TEMPLATE.replace("{}", label) for row, label in rows]
    assert measured.accuracy == pytest.approx(sum(right) / len(rows))
    assert measured.classifier_accuracy == pytest.approx(sum(classified) / len(rows))
    assert measured.said_accuracy == pytest.approx(sum(said) / len(rows))
    pairs = list(zip(right, classified, strict=True))
    assert (measured.num_rescued, measured.num_spoiled) == (
        pairs.count((True, False)),
        pairs.count((False, True)),
    )


def test_nothing_of_the_language_model_changed_or_was_copied(
    described: tuple[Path, DescribeSummary],
) -> None:
    folder, found = described
    assert load(folder / "language").sha256() == found.llm_sha256
    names = {path.name for path in (folder / "workspace").rglob("*.safetensors")}
    assert "model.safetensors" not in names


def test_the_registry_has_the_version_with_its_evidence(
    described: tuple[Path, DescribeSummary],
) -> None:
    folder, found = described
    assert found.model_uri == "models:/words/1"
    client = connect(tracking_for(str(folder / "workspace")))
    tags = client.get_model_version("words", "1").tags
    assert tags["coft.kind"] == "libra"
    assert tags["coft.llm_sha256"] == found.llm_sha256
    agreement = 1 - found.num_differing / found.num_images
    assert float(tags["coft.agreement"]) == pytest.approx(agreement, abs=1e-4)
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["num_differing"] == found.num_differing
    assert len(client.get_metric_history(found.run_id, "text")) == run.data.metrics["epochs"]


def test_the_page_says_what_it_is_good_for(described: tuple[Path, DescribeSummary]) -> None:
    _, found = described
    page = Page(Path(found.report).read_text())
    for words in (
        "no better classifier than CLIP or a linear probe",
        f"Of {found.num_differing} images the classifier says another class",
        "Classes that are mixed up",
        "no person's",
    ):
        assert words in page.prose


def test_the_same_again_computes_nothing(
    described: tuple[Path, DescribeSummary], tiny_clip: Path
) -> None:
    folder, found = described
    kinds = ("visions", "captions", "maps", "models")
    files = [path for kind in kinds for path in (folder / "workspace" / kind).rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = describe(spec_of(folder, tiny_clip, confused=True))
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert again.model_copy(update={"run_id": found.run_id}) == found


def test_an_interrupted_run_ends_as_it_would_have(
    described: tuple[Path, DescribeSummary], tiny_clip: Path, tmp_path: Path
) -> None:
    folder, _ = described
    runtime = RuntimeSpec(workspace=str(tmp_path / "workspace"))
    again = describe(spec_of(folder, tiny_clip, runtime=runtime))
    (weights,) = (tmp_path / "workspace" / "visions").glob("*/weights.safetensors")
    expected = folder / "workspace" / "visions" / weights.parent.name / weights.name
    assert weights.read_bytes() == expected.read_bytes()  # in another workspace, bit for bit
    captions = sorted(Path(again.captions).glob("*.parquet"))
    told = captions[0].read_bytes()
    Path(again.captions, "manifest.json").unlink()  # as a run that was killed leaves it
    captions[0].unlink()
    kept = captions[1].stat().st_mtime_ns
    describe(spec_of(folder, tiny_clip, runtime=runtime))
    assert captions[0].read_bytes() == told
    assert captions[1].stat().st_mtime_ns == kept


def test_learning_that_is_killed_goes_on_where_it_was(
    described: tuple[Path, DescribeSummary], tiny_clip: Path, tmp_path: Path
) -> None:
    folder, _ = described
    steps, places = 150, (tmp_path / "killed", tmp_path / "whole")
    family = Family()
    with program(
        _words(folder, tiny_clip, places[0], steps), tmp_path / "log", family.environment
    ) as run:
        wait_for(places[0], "visions/*/resume.safetensors", run)
        assert len(family.alive()) > 3
        run.kill()
    assert family.survivors(60) == []
    assert not list(places[0].glob("visions/*/weights.safetensors")), "killed too late"
    training = CaptionTrainingSpec(steps=steps, batch_size=8, learning_rate=1e-2)
    for place in places:
        runtime = RuntimeSpec(workspace=str(place))
        describe(spec_of(folder, tiny_clip, training=training, runtime=runtime, prompts=()))
    one, two = (next(place.glob("visions/*/weights.safetensors")) for place in places)
    assert one.parent.name == two.parent.name
    assert one.read_bytes() == two.read_bytes()


def _words(folder: Path, clip: Path, workspace: Path, steps: int) -> list[str]:
    """Return a program that does what `spec_of` says, with more steps."""
    words = ["describe", "--images", folder / "images.parquet", "--labels", "column"]
    words += ["--rows-per-shard", "16", "--llm", f"local-dir:{folder / 'language'}"]
    words += ["--backbone", f"local-dir:{clip}", "--workspace", workspace, "--register", "words"]
    words += ["--label.top.per-class", "8", "--label.top.min-total", "0"]
    words += ["--vision.side", "2", "--vision.rank", "8", "--vision.first", "1"]
    words += ["--training.steps", steps, "--training.batch-size", "8"]
    words += ["--training.learning-rate", "0.01"]
    return ["-c", "from flows.cli import main; main()", *map(str, words)]


def test_a_classifiers_labels_are_learned_and_its_networks_say_what_is_mixed_up(
    described: tuple[Path, DescribeSummary], tiny_clip: Path
) -> None:
    folder, _ = described
    spec = spec_of(folder, tiny_clip, confused=True, register_as=None, prompts=())
    model = coft(
        CoftSpec(
            pool=spec.pool,
            backbone=spec.backbone,
            method="zero-shot",
            runtime=spec.runtime,
            register_as="classes",
        )
    )
    found = describe(spec.model_copy(update={"model": model.model_uri}))
    assert found.source == "surest labels of the classifier"
    assert found.model_uri is None
    other = spec.pool.model_copy(update={"classes": "red,green,white", "labels": None})
    with pytest.raises(InputError, match=r"only the model has 'blue'|only --classes has 'white'"):
        describe(spec.model_copy(update={"model": model.model_uri, "pool": other}))
