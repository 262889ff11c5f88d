"""The lines of a plan: at most ten, one each, whatever names and files are called."""

from typing import Any

from tasks.plan.facts import (
    BackboneFound,
    ClassesFound,
    ImagesFound,
    Place,
    Plan,
    Results,
    Reused,
    classes_found,
)
from tasks.plan.words import line_of_files, lines_of, rows_of
from tasks.pool.understood import ClassList, LabelCounts
from tasks.refs import Files


def plan(**changes: Any) -> Plan:
    images = ImagesFound(by_split={"pool": {".jpg": 1200, ".png": 3}, "test": {".jpg": 9}})
    values: dict[str, Any] = {
        "digest": "0" * 16,
        "images": images,
        "classes": classes_found(ClassList(names=("cat", "dog"), origin="--classes cat,dog")),
        "backbone": BackboneFound(name="embedded", kind="timm", image_size=128, embed_dim=384),
        "place": Place(num_cores=2, num_gpus=0, num_workers=2),
        "results": Results(workspace="/photos/results", is_new=True),
        "reused": Reused(),
    }
    return Plan(**{**values, **changes})


def said(**changes: Any) -> dict[str, str]:
    return dict(rows_of(plan(**changes)))


def test_a_plan_says_what_was_understood() -> None:
    assert lines_of(plan()) == [
        "images     1,212: 1,203 to learn from (1,200 .jpg, 3 .png), 9 .jpg for testing",
        "classes    2: 'cat', 'dog' (--classes cat,dog)",
        "backbone   embedded: an image tower of timm, 128 pixels, 384 dimensions",
        "runs on    this machine: 2 cores, no GPU, 2 workers",
        "results    /photos/results (new)",
        "reuses     nothing, all is computed",
    ]


def test_a_plan_with_everything_has_ten_lines() -> None:
    labels = LabelCounts(
        origin="--labels labels.csv",
        num_matched=1000,
        num_unmatched=2,
        num_unknown=1,
        matched=("a.jpg: cat",),
        unmatched=("x.jpg: cat", "y\n.jpg: dog"),
        unknown=("b.jpg: cta",),
    )
    images = ImagesFound(
        by_split={"pool": {".parquet": 90}, "test": {".parquet": 10}},
        num_tables=2,
        split_folders={"train": 90, "test": 10},
        skipped={".heic": 12, ".txt": 1},
        num_links=2,
    )
    tracking = "MLflow runs go to https://tracking"
    results = Results(workspace="w\x1b[2J", is_new=False, register_as="m", tracking=tracking)
    place = Place(ray_address="auto", num_workers=4, prefect="http://prefect/api")
    reused = Reused(images=True, embeddings=100, of_these=True, steps=("images", "embed pool"))
    lines = lines_of(
        plan(images=images, labels=labels, results=results, place=place, reused=reused)
    )
    assert lines == [
        "images     100 rows of 2 Parquet files: 90 to learn from, 10 for testing; "
        "by folders 90 train, 10 test",
        "skipped    12 .heic (needs pillow-heif), 1 .txt, 2 links out of the folder, not followed",
        "classes    2: 'cat', 'dog' (--classes cat,dog)",
        "labels     1,000 matched (--labels labels.csv): a.jpg: cat",
        "unmatched  2 labels of no image: x.jpg: cat, y\\n.jpg: dog",
        "unknown    1 label of no class: b.jpg: cta",
        "backbone   embedded: an image tower of timm, 128 pixels, 384 dimensions",
        "runs on    the Ray cluster at auto, 4 workers; Prefect at http://prefect/api",
        "results    w\\x1b[2J (exists); the model becomes 'm'; MLflow runs go to https://tracking",
        "reuses     100 embeddings of these images; finished steps: images, embed pool",
    ]


def test_classes_are_shown_as_they_were_read() -> None:
    names = ("1;cat", " dog", "it's", "a, b", "x\ny", "six", "seven")
    read = classes_found(ClassList(names=names, origin="--classes c.csv", reading="split by ';'"))
    assert said(classes=read)["classes"] == (
        "7: '1;cat', ' dog', \"it's\", 'a, b', 'x\\ny', ... 'seven' (--classes c.csv; split by ';')"
    )
    six = classes_found(ClassList(names=names[:6], origin="x"))
    assert said(classes=six)["classes"].endswith("'x\\ny', 'six' (x)"), "none is left out"
    long = ClassesFound(number=2, first=("a" * 500, "b"), last="b", origin="x")
    assert len(said(classes=long)["classes"]) < 100


def test_what_embeds_or_predicts_has_no_use_for_splits() -> None:
    both = {"pool": {".jpg": 2}, "test": {".jpg": 1, ".png": 1}}
    assert said(images=ImagesFound(by_split=both), classes=None)["images"] == "4: 3 .jpg, 1 .png"
    rows = ImagesFound(by_split={"pool": {".parquet": 5}}, num_tables=1)
    assert said(images=rows, classes=None)["images"] == "5 rows of 1 Parquet file"
    predicts = said(classes=None, backbone=None, model="models:/photos/3")
    assert list(predicts) == ["images", "model", "runs on", "results", "reuses"]


def test_labels_that_all_match_are_said_to() -> None:
    labels = LabelCounts(origin="--labels folders", num_matched=3, matched=("cat/1.png: cat",))
    assert said(labels=labels)["labels"] == (
        "3 matched, none unmatched, none of an unknown class (--labels folders): cat/1.png: cat"
    )


def test_what_may_be_reused_is_not_promised() -> None:
    assert said(reused=Reused(embeddings=7))["reuses"] == (
        "embeddings of images seen before, 7 are there"
    )
    assert said(reused=Reused(images=True))["reuses"] == "what was read of the images"


def test_a_machine_with_gpus() -> None:
    place = Place(num_cores=1, num_gpus=4, num_workers=None)
    assert said(place=place)["runs on"] == "this machine: 1 core, 4 GPUs"


def test_files_that_were_left_out_are_told_with_reasons() -> None:
    assert line_of_files(Files(num_images=3)) == "files      3 images, 0 quarantined, 0 skipped"
    files = Files(
        num_images=2000,
        quarantined={"truncated": 12, "not-an-image": 3},
        skipped={".heic": 1, ".txt": 2, "": 1},
    )
    assert line_of_files(files) == (
        "files      2,000 images, 15 quarantined (12 x truncated, 3 x not-an-image), "
        "4 skipped (1 .heic (needs pillow-heif), 2 .txt, 1 other)"
    )


def test_answers_are_told_like_labels_and_there_are_ten_lines_at_most() -> None:
    labels = LabelCounts(
        origin="--labels l.csv", num_matched=9, num_unmatched=2, num_unknown=1,
        matched=("a.jpg: cat",), unmatched=("x.jpg: cat",), unknown=("b.jpg: cta",),
    )  # fmt: skip
    lines = said(labels=labels, answers=labels.model_copy(update={"origin": "--answers a.csv"}))
    problems = "2 labels of no image: x.jpg: cat; 1 label of no class: b.jpg: cta"
    assert lines["labels"] == "9 matched (--labels l.csv): a.jpg: cat"
    assert lines["not used"] == problems
    assert lines["answers"] == f"9 matched (--answers a.csv): a.jpg: cat; {problems}"
    assert not {"unmatched", "unknown"} & lines.keys()
    assert len(lines) == 9  # and one of skipped files
