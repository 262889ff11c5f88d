"""What a run will find of earlier ones: steps, embeddings, and what was read of the images."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.plan import reuse
from tasks.plan.facts import Plan
from tasks.plan.make import make_plan
from tasks.specs import BackboneSpec, CoftSpec
from tasks.storage.files import remove, write_json
from tasks.storage.layout import Folder, in_workspace
from tests.worlds.embedding import Embedding
from tests.worlds.images import encoded_image
from tests.worlds.pools import tree
from tests.worlds.workspace import image_id, unit_vectors, write_embeddings


@pytest.fixture
def seen(place: Embedding) -> Embedding:
    """Return a place in which twelve images were embedded."""
    tree(place.root, {f"{number}.png": encoded_image(number) for number in range(12)})
    place.embed()
    return place


def planned(place: Embedding, **changes: Any) -> Plan:
    spec = place.spec().model_copy(update={"backbone": BackboneSpec(name=place.backbone.name)})
    return make_plan(spec.model_copy(update=changes), "embed")


def test_a_new_workspace_has_nothing(place: Embedding) -> None:
    tree(place.root, {"1.png": encoded_image(1)})
    reused = planned(place).reused
    assert (reused.images, reused.embeddings, reused.steps) == (False, 0, ())


def test_images_that_were_embedded_before_are_all_known(seen: Embedding) -> None:
    reused = planned(seen).reused
    assert (reused.images, reused.embeddings, reused.of_these) == (True, 12, True)


def test_beside_new_images_the_store_is_counted(seen: Embedding) -> None:
    tree(seen.root, {"new.png": encoded_image(99)})
    reused = planned(seen).reused
    assert (reused.images, reused.embeddings, reused.of_these) == (False, 12, False)
    place = in_workspace(seen.workspace, Folder.EMBEDDINGS)
    for run in Path(place).glob("*/runs"):
        remove(str(run))
    assert planned(seen).reused.embeddings == 12, "also what a killed run has left"


def test_features_of_another_tower_are_not_counted(seen: Embedding) -> None:
    assert planned(seen, backbone=BackboneSpec(name="embedded")).reused.embeddings == 0
    ids = [image_id(number) for number in range(5)]
    for number, learned in enumerate(("", "a-peer")):
        digest = f"{number}" * 16
        write_embeddings(
            seen.workspace, digest, ids, unit_vectors(5, 8), backbone="embedded", learned=learned
        )
    assert planned(seen, backbone=BackboneSpec(name="embedded")).reused.embeddings == 5


def test_steps_are_those_of_an_equal_run(seen: Embedding) -> None:
    plan = planned(seen)
    stages = {"images": f"pool/{Path(seen.images().uri).name}", "embed pool": "gone/away"}
    record = in_workspace(seen.workspace, Folder.BEGUN, f"{plan.digest}.json")
    write_json(record, {"steps": {step: [folder] for step, folder in stages.items()}})
    assert planned(seen).reused.steps == ("images",), "what was removed is computed again"
    assert planned(seen, seed=1).reused.steps == ()


def test_what_makes_other_files_makes_another_run(tmp_path: Path, tiny_clip: Path) -> None:
    images = tree(tmp_path / "images", {"a/1.png": b"x", "b/2.png": b"x"})
    labels, answers = tmp_path / "labels.csv", tmp_path / "answers.csv"
    labels.write_text("uri,label\na/1.png,a\nb/2.png,b\n")
    answers.write_text("uri,label\na/1.png,a\n")

    def digest(**changes: Any) -> str:
        pool = {"images": str(images), "classes": "a,b", "labels": str(labels)}
        pool |= changes.pop("pool", {})
        clip = f"local-dir:{tiny_clip}"
        values = {"backbone": {"name": clip}, "answers": str(answers), **changes}
        values["runtime"] = {"workspace": f"memory://{uuid4().hex}", **changes.pop("runtime", {})}
        spec = CoftSpec.model_validate({"pool": pool, **values})
        return make_plan(spec, "adapt").digest

    same = digest()
    assert digest(register_as="other", command="coft adapt", runtime={"num_actors": 3}) == same
    copied = tmp_path / "copied.csv"
    copied.write_text(labels.read_text())
    assert digest(pool={"labels": str(copied)}) == same, "what is in a file counts, not its name"
    others = [
        digest(seed=1),
        digest(pool={"classes": "b,a"}),
        digest(pool={"labels": None}),
        digest(backbone={"name": "embedded"}),
        digest(answers=None),
    ]
    answers.write_text("uri,label\nb/2.png,b\n")
    others.append(digest())
    tree(images, {"a/3.png": b"x"})
    others.append(digest())
    assert len({same, *others}) == 1 + len(others)


def test_answers_of_rounds_are_known_by_their_files(tmp_path: Path) -> None:
    tree(tmp_path, {"answers/0001-feed.parquet": b"x"})
    before = reuse._version_of_answers(str(tmp_path))
    tree(tmp_path, {"answers/0002-beef.parquet": b"x"})
    assert reuse._version_of_answers(str(tmp_path)) != before
