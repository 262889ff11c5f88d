"""Labels are counted before a run: those that are used, those of no image, those of no class."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.pool.label_counts import count_answers
from tasks.pool.label_file import BadLabels
from tasks.pool.true_labels import check_input
from tasks.pool.understood import LabelCounts
from tasks.specs import PoolSpec

NAMES = [f"{folder}/{number}.png" for folder in ("cat", "dog") for number in range(15)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def count(photos: Path, text: str, **others: Any) -> LabelCounts:
    file = photos.parent / "labels"
    file.write_text(text)
    values = {"images": str(photos), "classes": "cat,dog", "labels": str(file), **others}
    labels = check_input(PoolSpec.model_validate(values)).labels
    assert labels is not None
    return labels


def csv_of(*paths: str) -> str:
    return "".join(f"{line}\n" for line in ("uri,label", *(f"{path},cat" for path in paths)))


def numbers(counts: LabelCounts) -> tuple[int, int, int]:
    return counts.num_matched, counts.num_unmatched, counts.num_unknown


@pytest.mark.parametrize(
    "prefix", ["./", "photos/", "/mnt/old/photos/", "D:\\photos\\", "https://host/", "%2E/"]
)
def test_all_labels_are_found_under_another_prefix(photos: Path, prefix: str) -> None:
    counts = count(photos, csv_of(*(prefix + name for name in NAMES)))
    assert numbers(counts) == (30, 0, 0)
    assert counts.matched[0] == f"{prefix}cat/0.png = cat/0.png: cat"


def test_under_half_is_refused_unless_it_is_known(photos: Path) -> None:
    text = csv_of(*NAMES[:3], *(f"other/{number}.png" for number in range(100, 127)))
    with pytest.raises(BadLabels, match=r"3 of 30 labels .* 27 name no image") as caught:
        count(photos, text)
    assert "other/100.png: cat, other/101.png: cat, other/102.png: cat)" in str(caught.value)
    assert "--allow-partial-labels" in str(caught.value)
    counts = count(photos, text, allow_partial_labels=True)
    assert numbers(counts) == (3, 27, 0)
    assert counts.unmatched == ("other/100.png: cat", "other/101.png: cat", "other/102.png: cat")


def test_half_is_enough_and_nothing_is_not(photos: Path) -> None:
    assert numbers(count(photos, csv_of("cat/1.png", "none.png"))) == (1, 1, 0)
    with pytest.raises(BadLabels, match="0 of 1 labels") as caught:
        count(photos, csv_of("none.png"), allow_partial_labels=True)
    assert "--allow" not in str(caught.value)


def test_labels_mean_classes_in_any_spelling(photos: Path) -> None:
    text = "uri,label\ncat/1.png, CAT \ncat/2.png,ca\u200bt\ndog/1.png,Hot  Dog\ndog/2.png,puma\n"
    counts = count(photos, text, classes="cat,hot dog")
    assert numbers(counts) == (3, 0, 1)
    assert counts.unknown == ("dog/2.png: puma",)


def test_an_image_has_one_label(photos: Path) -> None:
    text = "uri,label\n./cat/1.png,cat\nphotos/cat/1.png,dog\n"
    with pytest.raises(BadLabels, match="given two different labels"):
        count(photos, text)
    text = "uri,label\n./cat/1.png,cat\ncat/1.png,CAT\n"
    assert numbers(count(photos, text)) == (2, 0, 0)


@pytest.mark.parametrize(
    "url",
    ["/data/local-files/?d=photos/{}", "http://ls:8080/data/local-files/?d=photos/{}", "s3://b/{}"],
)
@pytest.mark.parametrize("kind", ["json", "min", "csv"])
def test_exports_of_label_studio(photos: Path, url: str, kind: str) -> None:
    rows = [(url.format(name), name.partition("/")[0]) for name in NAMES]
    if kind == "json":
        content: Any = [
            {
                "data": {"img": image},
                "annotations": [
                    {"result": [{"type": "choices", "value": {"choices": [label]}}]},
                ],
            }
            for image, label in rows
        ]
    else:
        content = [
            {"id": n, "img": image, "animal": label, "annotator": 1, "annotation_id": n}
            for n, (image, label) in enumerate(rows)
        ]
    text = json.dumps(content)
    if kind == "csv":
        lines = [f"{image},{n},{label},1,{n}" for n, (image, label) in enumerate(rows)]
        text = "\n".join(["img,id,animal,annotator,annotation_id", *lines])
    assert numbers(count(photos, text)) == (30, 0, 0)


def test_uploads_to_label_studio(photos: Path) -> None:
    (photos / "my cat (2).png").write_bytes(b"x")
    content = [
        {"image": f"/data/upload/7/{n:08x}-{name}", "choice": "cat", "annotation_id": n}
        for n, name in enumerate(("my_cat_2.png", "14.png"))
    ]
    counts = count(photos, json.dumps(content))
    assert numbers(counts) == (1, 1, 0)  # there are two of the second name
    assert counts.matched == ("/data/upload/7/00000000-my_cat_2.png = my cat (2).png: cat",)


@pytest.mark.parametrize("prefix", ["", "val2017/", "C:\\coco\\"])
def test_coco(photos: Path, prefix: str) -> None:
    images = [{"id": n, "file_name": f"{prefix}{name}"} for n, name in enumerate(NAMES)]
    annotations = [{"id": n, "image_id": n, "category_id": 17 + n // 15} for n in range(30)]
    categories = [{"id": 18, "name": "Dog"}, {"id": 17, "name": "Cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    counts = count(photos, json.dumps(content))
    assert numbers(counts) == (30, 0, 0)
    annotations.append({"id": 99, "image_id": 0, "category_id": 18})
    with pytest.raises(BadLabels, match="expected one category, got Cat, Dog"):
        count(photos, json.dumps(content))


def test_names_of_two_sources_need_their_folder(photos: Path) -> None:
    other = photos.parent / "held-out"
    for name in NAMES:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(b"x")
    with pytest.raises(BadLabels, match="30 name no image, or several"):
        count(photos, csv_of(*NAMES), test=str(other))
    counts = count(photos, csv_of(*(f"held-out/{name}" for name in NAMES)), test=str(other))
    assert numbers(counts) == (30, 0, 0)


def test_answers_are_counted_as_labels_are(photos: Path) -> None:
    spec = PoolSpec(images=str(photos), classes="cat,dog")
    file = photos.parent / "answers.csv"
    file.write_text("uri,label\n./cat/1.png,cat\ncat/1.png,DOG\nold/dog/2.png,dog\nx,skip\n")
    assert numbers(count_answers(str(file), spec, check_input(spec))) == (3, 0, 0)
    file.write_text("uri,label\ncat/1.png,cat\nnone.png,cat\n" + "cat/2.png,puma\n" * 2)
    with pytest.raises(BadLabels, match=r"--answers .*: 1 of 4 labels .* 1 name no .* 2 are not"):
        count_answers(str(file), spec, check_input(spec))


@pytest.mark.parametrize(
    "text",
    [
        "# made by hand\nuri,label\ncat/1.png,cat\ndog/1.png,dog\n",
        "Datei;Klasse\ncat/1.png;cat\ndog/1.png;dog\n",
        "cat/1.png;cat;0,5\ndog/1.png;dog;0,7\n",
        "uri,label,category\ncat/1.png,cat,Cat\ndog/1.png,dog,DOG\n",
        '{"image": "cat/1.png", "label": "cat"}\n{"image": "dog/1.png", "label": "dog"}\n'
        '{"image": "dog/2.png"}\n',
    ],
)
def test_files_with_one_reading(photos: Path, text: str) -> None:
    assert numbers(count(photos, text)) == (2, 0, 0)


COCO: dict[str, list[dict[str, Any]]] = {
    "images": [{"id": 1, "file_name": "cat/1.png"}, {"id": 2, "file_name": "dog/1.png"}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [{"image_id": 1, "category_id": 1}],
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uri,label,category\ncat/1.png,cat,dog\n", "'label' and 'category' .*--label-columns"),
        ('[{"image": "cat/1.png", "label": "dog", "class": "cat"}]', "different ones in label and"),
        ('{"cat/1.png": "dog", "cat/1.png": "cat"}', "stands there twice"),
        (json.dumps({**COCO, "images": COCO["images"] * 2}), "images have the same id"),
        (json.dumps({**COCO, "categories": COCO["categories"] * 2}), "categories have the same id"),
        (json.dumps({**COCO, "annotations": [{"image_id": "1", "category_id": 1}]}),
         "image_id '1', which none of the images has"),
        (json.dumps({**COCO, "images": [{"id": 1, "file_name": None}]}), "has no file_name"),
    ],
)  # fmt: skip
def test_labels_that_are_not_certain_are_refused(photos: Path, text: str, words: str) -> None:
    with pytest.raises(BadLabels, match=words):
        count(photos, text)
