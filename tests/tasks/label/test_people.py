"""Labels of people in CoFT: from a file or rounds, heeded in both phases, never tested on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest
import torch
import torch.nn.functional as F

from clipcore import checkpoint
from tasks.answers.record import import_answers
from tasks.evaluate import evaluate, read_metrics
from tasks.label.confident import most_confident
from tasks.label.cross_filter import cross_filter, held_out
from tasks.label.people import known_answers
from tasks.pool.readers import iter_images
from tasks.refs import (
    AnswersRef,
    BackboneRef,
    EmbeddingsRef,
    ImagesRef,
    LabelsRef,
    PeerRef,
    Phase1Round,
    PredictionsRef,
    Reason,
    Stages,
    TaskRef,
)
from tasks.specs import CoftSpec, InputError, LabelSpec, Phase2Spec, PoolSpec, RuntimeSpec, TopSpec
from tasks.storage.files import write_bytes
from tasks.storage.layout import WEIGHTS
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import read_table
from tasks.storage.uris import join
from tests.worlds.stages import CLASSES, COUNT, SCALE, images, stage, write_stages

DIM = 8
ROWS = 16

Made = tuple[tuple[ImagesRef, TaskRef], EmbeddingsRef, LabelsRef, torch.Tensor]

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Return pool, features, a finished zero-shot labelling that is always right, and centres."""
    pool, features, zero_shot, centres = write_stages(tmp_path, ROWS, DIM)
    table = images(DIM)[0]
    rows = pa.table(
        {
            "image_id": table["image_id"],
            "source": ["zero-shot"] * COUNT,
            "label": table["label"],
            "confidence": pa.array([0.5 + n / 200 for n in range(COUNT)], pa.float32()),
            "gap": pa.nulls(COUNT, pa.float32()),
            "kept": [True] * COUNT,
            "reason": [""] * COUNT,
        }
    )
    parts = [rows.slice(start, ROWS) for start in range(0, COUNT, ROWS)]
    stage(Path(zero_shot.uri), parts)
    return pool, features, zero_shot.model_copy(update={"rows": COUNT}), centres


def spec(place: Path, **changes: object) -> CoftSpec:
    values = {
        "pool": PoolSpec(images="memory://"),
        "label": LabelSpec(top=TopSpec(per_class=2, min_total=0)),
        "phase2": Phase2Spec(holdout=0.3, min_kept=0),
        "runtime": RuntimeSpec(workspace=str(place / "workspace")),
        **changes,
    }
    return CoftSpec.model_validate(values)


def write_answers(path: Path, rows: dict[str, str]) -> str:
    pacsv.write_csv(pa.table({"image_id": list(rows), "label": list(rows.values())}), path)
    return str(path)


def pool_ids() -> list[str]:
    """Return the images that may be asked about, in the pool's order."""
    table = images(DIM)[0]
    keep = pc.and_(pc.equal(table["split"], "pool"), table["duplicate_of"].is_null())
    return table.filter(keep)["image_id"].to_pylist()


def label_of(image: str) -> str:
    table = images(DIM)[0]
    return dict(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))[image]


def other_than(label: str) -> str:
    return CLASSES[(CLASSES.index(label) + 1) % len(CLASSES)]


def rows_of(labels: LabelsRef) -> dict[str, dict[str, object]]:
    table = pa.concat_tables(iter_tables(labels.uri))
    return {row["image_id"]: row for row in table.to_pylist()}


def peers(place: Path, centres: torch.Tensor, features: EmbeddingsRef) -> tuple[object, object]:
    """Write two peers that know the classes, and reject what is not of the class they are told."""
    found = []
    middle = F.normalize(centres.mean(dim=0, keepdim=True), dim=1)
    for number in (1, 2):
        tensors = {
            "positive": centres,
            "negative": middle.expand_as(centres).clone(),
            "logit_scale": torch.tensor(SCALE),
        }
        folder = place / f"peer-{number}"
        data = checkpoint.to_bytes(tensors, {"phase": 1})
        write_bytes(join(str(folder), WEIGHTS), data)
        found.append(PeerRef(uri=str(folder), digest=f"peer-{number}", peer=number, phase=1))
    return tuple(found), (features, features)


# --- reading --------------------------------------------------------------------------------------


def test_nobody_was_asked(made: Made, tmp_path: Path) -> None:
    assert known_answers.fn(*made[0], spec(tmp_path)) is None


def test_a_file_and_rounds_with_the_same_answers_are_one(made: Made, tmp_path: Path) -> None:
    pool, ids = made[0], pool_ids()
    test_image = images(DIM)[0]["image_id"][0].as_py()
    said = {ids[0]: "red", ids[1]: "blue", ids[2]: "none of these classes", ids[3]: "skip"}
    file = write_answers(tmp_path / "a.csv", said | {test_image: "red"})
    of_file = known_answers.fn(*pool, spec(tmp_path, answers=file))
    rounds = str(tmp_path / "rounds")
    parts = dict(list(reversed(said.items()))[:2]), dict(list(said.items())[:2])
    for number, part in enumerate(parts):
        path = write_answers(tmp_path / f"{number}.csv", part)
        askable_images = iter_images(pool[0], ["image_id", "uri", "name"], "pool")
        import_answers(rounds, path, classes=CLASSES, pool=askable_images, queried=set())
    of_rounds = known_answers.fn(*pool, spec(tmp_path, answers=rounds))
    assert of_file == of_rounds
    assert of_file is not None
    table = read_table(of_file.uri)
    assert {row["image_id"]: row["label"] for row in table.to_pylist()} == {
        ids[0]: "red",
        ids[1]: "blue",
        ids[2]: None,
    }


def test_a_copy_can_be_named_and_what_is_not_used_is_told(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, ids = made[0], pool_ids()
    copy = pa.table(
        {
            "image_id": [ids[0]],
            "uri": ["memory://copies/of-the-first"],
            "name": ["copies/of-the-first"],
            "split": ["pool"],
            "duplicate_of": [f"memory://{ids[0]}"],
        }
    )
    refs, task = pool
    tables = [copy, *iter_tables(refs.uri)]
    with_copy = refs.model_copy(update={"uri": stage(tmp_path / "with-copy", tables)})
    test_image = images(DIM)[0]["image_id"][0].as_py()
    path = tmp_path / "a.csv"
    path.write_text(
        f"uri,label\nof-the-first,red\nmemory://{test_image},red\nnowhere.png,red\n"
        f"memory://{ids[1]},purple\n"
    )
    found = known_answers.fn(with_copy, task, spec(tmp_path, answers=str(path)))
    assert found is not None
    assert read_table(found.uri)["image_id"].to_pylist() == [ids[0]]
    assert "Answers: 1 labels of 1 of 3 classes; 3 name no image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"0" * 31 + "x": "red"}, "1 with unknown-image"),
        ({"first": "purple"}, "1 with unknown-label"),
        ({"first": "skip"}, "expected labels of images to learn from"),
    ],
)
def test_answers_that_teach_nothing_are_refused(
    made: Made, tmp_path: Path, said: dict[str, str], sentence: str
) -> None:
    rows = {pool_ids()[0] if image == "first" else image: label for image, label in said.items()}
    file = write_answers(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, match=sentence):
        known_answers.fn(*made[0], spec(tmp_path, answers=file))
    with pytest.raises(InputError, match=r"absent.csv.*Check the path"):
        known_answers.fn(*made[0], spec(tmp_path, answers=str(tmp_path / "absent.csv")))


# --- both phases ----------------------------------------------------------------------------------


@pytest.fixture
def answers(made: Made, tmp_path: Path) -> AnswersRef:
    """Return a wrong-looking answer, a plain one, and one that no class fits, in that order."""
    ids = pool_ids()
    said = {
        ids[0]: other_than(label_of(ids[0])),
        ids[1]: label_of(ids[1]),
        ids[2]: "none of these classes",
    }
    file = write_answers(tmp_path / "answers.csv", said)
    found = known_answers.fn(*made[0], spec(tmp_path, answers=file))
    assert found is not None
    return found


def assert_heard(found: dict[str, dict[str, object]]) -> None:
    """Assert that a labelling has what `answers` says of the first three images."""
    ids = pool_ids()
    assert found[ids[0]]["label"] == other_than(label_of(ids[0]))
    assert all(found[i]["kept"] and found[i]["reason"] == Reason.ANSWERED for i in ids[:2])
    assert (found[ids[2]]["kept"], found[ids[2]]["reason"]) == (False, Reason.NONE_FITS)


def test_phase_1_learns_answers_beside_the_most_confident(
    made: Made,
    answers: AnswersRef,
    tmp_path: Path,
) -> None:
    pool, features, zero_shot, _ = made
    ids = pool_ids()
    without = rows_of(most_confident.fn(zero_shot, features, *pool, spec(tmp_path)))
    labels = most_confident.fn(zero_shot, features, *pool, spec(tmp_path), answers)
    found = rows_of(labels)
    assert set(found) == set(without) == set(ids)
    assert_heard(found)
    surest = {i for i, row in without.items() if row["kept"]}
    assert {i for i, row in found.items() if row["kept"]} == surest | set(ids[:2])
    assert labels.num_kept == 3 * 2 + 2


def test_an_answer_takes_no_place_among_the_most_confident(made: Made, tmp_path: Path) -> None:
    pool, features, zero_shot, _ = made
    without = rows_of(most_confident.fn(zero_shot, features, *pool, spec(tmp_path)))
    surest = next(image for image, row in without.items() if row["kept"])
    file = write_answers(tmp_path / "a.csv", {surest: label_of(surest)})
    known = known_answers.fn(*pool, spec(tmp_path, answers=file))
    found = rows_of(most_confident.fn(zero_shot, features, *pool, spec(tmp_path), known))
    assert sum(bool(row["kept"]) for row in found.values()) == 3 * 2 + 1


def test_both_clean_sets_have_the_answers_whatever_the_peers_say(
    made: Made,
    answers: AnswersRef,
    tmp_path: Path,
) -> None:
    pool, features, _, centres = made
    ids, settings = pool_ids(), spec(tmp_path)
    both, seen = peers(tmp_path, centres, features)
    without = [rows_of(labels) for labels in cross_filter.fn(both, seen, *pool, settings)]
    for before, labels in zip(
        without, cross_filter.fn(both, seen, *pool, settings, answers), strict=True
    ):
        found = rows_of(labels)
        assert_heard(found)
        assert found[ids[0]]["gap"] < 0, "the other peer disagrees, and is not asked"
        assert {i: found[i] for i in ids[3:]} == {i: before[i] for i in ids[3:]}


def test_an_answer_is_not_held_out(made: Made, tmp_path: Path) -> None:
    pool, features, _, centres = made
    ids, settings = pool_ids(), spec(tmp_path)
    out = [i for i, aside in zip(ids, held_out(ids, 0.3, settings.seed), strict=True) if aside]
    file = write_answers(tmp_path / "a.csv", {out[0]: label_of(out[0])})
    known = known_answers.fn(*pool, spec(tmp_path, answers=file))
    both, seen = peers(tmp_path, centres, features)
    for labels in cross_filter.fn(both, seen, *pool, settings, known):
        found = rows_of(labels)
        assert found[out[0]]["reason"] == Reason.ANSWERED
        assert {i for i, row in found.items() if row["reason"] == Reason.HELD_OUT} == set(out[1:])


# --- evaluation -----------------------------------------------------------------------------------


def measure(
    place: Path,
    made: Made,
    answers: AnswersRef | None,
    confident: LabelsRef | None = None,
) -> dict[str, Any]:
    """Return the metrics of a model that predicts as zero-shot does."""
    pool, features, zero_shot, _ = made
    rows = pa.concat_tables(iter_tables(zero_shot.uri, ["image_id", "label", "confidence"]))
    parts = [rows.slice(start, ROWS) for start in range(0, COUNT, ROWS)]
    predictions = PredictionsRef(uri=stage(place / "predictions", parts), digest="predictions")
    backbone = BackboneRef(
        name="test",
        kind="vit",
        embed_dim=DIM,
        image_size=8,
        quick_gelu=False,
        weights_sha256="",
        preprocess_hash="",
    )
    stages = Stages(
        images=pool[0],
        task=pool[1],
        backbone=backbone,
        embeddings=features,
        zero_shot=zero_shot,
        answers=answers,
        phase1=() if confident is None else (_round(confident),),
    )
    return read_metrics(evaluate.fn(stages, predictions, spec(place)).uri)


def _round(confident: LabelsRef) -> Phase1Round:
    """Return a round of which nothing is read but its confident set."""
    return Phase1Round(confident=(confident,), peers=(), features=())


def test_without_a_test_split_answered_images_are_not_measured(
    made: Made,
    answers: AnswersRef,
    tmp_path: Path,
) -> None:
    measured = {}
    for known in (None, answers):
        found = measure(tmp_path, made, known)
        assert found["transductive"]
        measured[known] = found["adapted"]["num_images"]
    assert measured[None] - measured[answers] == 3


def test_what_people_said_counts_in_no_precision_of_pseudo_labels(
    made: Made,
    answers: AnswersRef,
    tmp_path: Path,
) -> None:
    pool, features, zero_shot, _ = made
    confident = most_confident.fn(zero_shot, features, *pool, spec(tmp_path), answers)
    assert confident.num_kept == 3 * 2 + 2
    found = measure(tmp_path, made, answers, confident)["kept_label_precision"]["confident"]
    assert (found["kept"], found["kept_right"]) == (3 * 2, 3 * 2)
