"""The model of a round, and a round that was cut short."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clipcore.classifier import load_classifier
from flows.active_rounds import active_round
from tasks.active.rounds import open_rounds, start_rounds
from tasks.active.specs import LearnerSpec, RoundsSpec
from tasks.images.pixel_cache import PixelCache
from tasks.images.pixels import Pixels
from tasks.images.training_pixels import TrainingPixels
from tasks.storage.manifest import iter_tables
from tests.worlds.rounds import NAME, active_spec, here, images_of

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def test_a_round_that_was_cut_short_ends_as_it_would_have(place: str) -> None:
    whole = open_rounds(here(place), NAME).states[0]
    folder = Path(open_rounds(here(place), NAME).round_folder(0))
    query = pq.read_table(folder / "query.parquet")
    for name in ("state.json", "query.parquet", "scores/manifest.json"):
        (folder / name).unlink()
    again = active_round(here(place), NAME)
    assert again.model_copy(update={"seconds": whole.seconds}) == whole
    assert pq.read_table(folder / "query.parquet").equals(query)


@pytest.mark.parametrize(
    ("name", "start", "learner"),
    [
        ("features", "phase1", {}),
        ("maple", "zero-shot", {"kind": "maple", "coupled_depth": 1}),
        (
            "prompts",
            "phase1",
            {"images": "tower", "adapter": {"name": "vpt", "num_visual_prompts": 3}},
        ),
        ("again", f"models:/{NAME}-active/1", {}),
        ("lora", "MODEL", {"images": "tower", "adapter": {"name": "lora", "lora_rank": 2}}),
    ],
)
def test_the_model_of_a_round_says_what_the_round_said(
    common: str,
    begun: tuple[Path, Path],
    tiny_clip: Path,
    name: str,
    start: str,
    learner: dict[str, object],
) -> None:
    start = start.replace("MODEL", f"{common}/rounds/{NAME}/round-00/model")
    active = active_spec(begun[0], Path(common), tiny_clip, start=start)
    changed = LearnerSpec.model_validate({**active.learner.model_dump(), **learner})
    active = active.model_copy(update={"learner": changed})
    start_rounds(RoundsSpec(name=name, budget=10, active=active))
    state = active_round(here(common), name)
    folder = Path(open_rounds(here(common), name).round_folder(0))
    said = pa.concat_tables(iter_tables(str(folder / "scores")))
    assert said.num_rows == 60
    where = {row["image_id"]: row["uri"] for row in images_of(common).to_pylist()}
    classifier = load_classifier(folder / "model")
    ids = said["image_id"].to_pylist()
    preprocess = classifier.preprocess
    pixels = Pixels(preprocess, PixelCache(None, preprocess), active.run.pool.max_pixels)
    everything = TrainingPixels(pixels, ids, [where[image] for image in ids]).mapped()
    found = classifier.probabilities(everything)
    expected = torch.tensor(said["probabilities"].to_pylist())
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert state.model_version is not None
    assert not list(folder.glob("learner/resume*"))
