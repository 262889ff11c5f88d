"""On photos and the backbone that ships with coft: what hurts is thrown out without a label."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.pool.task import open_task
from tasks.sentences.choice import choose_sentences
from tasks.sentences.record import Record, read_record
from tasks.specs import SentencesSpec
from tests.worlds.embedding import Embedding, watch
from tests.worlds.pools import tree

ROOT = Path(__file__).parents[4]
EMBEDDED = ROOT / "clipcore" / "embedded" / "lite0-wordnet"
PER_CLASS = 16
GLOSSES = {  # of WordNet, by lexicographers; the text tower was trained on names alone
    "airplane": "an aircraft that has a fixed wing and is powered by propellers or jets",
    "automobile": "a motor vehicle with four wheels usually propelled by a combustion engine",
    "bird": "warm-blooded egg-laying vertebrates characterized by feathers and wings",
    "cat": "feline mammal usually having thick soft fur and no ability to roar",
    "deer": "distinguished from Bovidae by the male's having solid deciduous antlers",
    "dog": "a member of the genus Canis that has been domesticated since prehistoric times",
    "frog": "any of various tailless stout-bodied amphibians with long hind limbs for leaping",
    "horse": "solid-hoofed herbivorous quadruped domesticated since prehistoric times",
    "ship": "a vessel that carries passengers or freight",
    "truck": "an automotive vehicle suitable for hauling",
}

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedding:
    return watch(tmp_path, EMBEDDED, monkeypatch)


def put(place: Embedding, source: Path, counts: dict[str, int]) -> None:
    """Write the first photos of some classes."""
    table = pq.read_table(source)
    for name, count in counts.items():
        rows = table.filter(pc.equal(table["label"], name)).slice(0, count)
        names = (f"{name}-{number}.jpg" for number in range(count))
        tree(place.root, dict(zip(names, rows["image"].to_pylist(), strict=True)))


def choose(place: Embedding, classes: str, **wanted: str) -> Record:
    spec = place.spec(classes=classes, rows_per_shard=64)
    spec = spec.model_copy(update={"sentences": SentencesSpec(**wanted)})
    images = place.images(classes=classes, rows_per_shard=64)
    task = open_task.fn(images, spec.pool, spec.runtime)
    features = place.embed(images, classes=classes, rows_per_shard=64)
    return read_record(choose_sentences.fn(features, images, task, place.backbone, spec).file)


def test_glosses_and_descriptions_are_thrown_out(
    photos: Embedding, tmp_path: Path, shared_bench: Path
) -> None:
    put(photos, shared_bench / "cifar10.parquet", dict.fromkeys(GLOSSES, PER_CLASS))
    lines = [f"{name},{gloss}" for name, gloss in GLOSSES.items()]
    (tmp_path / "classes.csv").write_text("\n".join(["class,description", *lines]))
    glosses = {name: [f"{gloss}."] for name, gloss in GLOSSES.items()}
    (tmp_path / "glosses.json").write_text(json.dumps(glosses))
    record = choose(photos, str(tmp_path / "classes.csv"), file=str(tmp_path / "glosses.json"))
    found = {row.name: row for row in record.candidates}
    assert set(found) == {"plain", "synonyms", "descriptions", "file"}
    for name in ("descriptions", "file"):
        assert found[name].mutual_information < 0.5 * found["plain"].mutual_information
    assert record.chosen in ("plain", "synonyms")


def test_the_photos_choose_the_butterfly_and_not_the_ruler(
    photos: Embedding, shared_bench: Path
) -> None:
    others = ["king penguin", "pop bottle", "lesser panda", "tractor", "albatross"]
    put(photos, shared_bench / "tiny25.parquet", {"monarch": 40, **dict.fromkeys(others, 16)})
    record = choose(photos, ",".join(["monarch", *others]))
    synonyms = {row.name for row in record.candidates} - {"plain"}
    assert synonyms == {"synonyms"}
    assert record.chosen == "synonyms"
    said = " ".join(record.sentences["monarch"])
    assert "milkweed butterfly" in said
    assert "sovereign" not in said
