"""A query becomes Label Studio's tasks, or a page; both carry the image and harm no class name."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from PIL import Image

from tasks.annotations.reading import read_answers
from tasks.annotations.spelling import Names
from tasks.answers import label_studio
from tasks.answers.config import labeling_config
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.label_studio import TaskFiles
from tasks.specs import InputError

Make = Callable[..., pa.Table]
LIMIT = 10**6


def ask(folder: Path, query: pa.Table, classes: tuple[str, ...], **more: Any) -> TaskFiles:
    options = {"model": "m/1", "max_pixels": LIMIT, **more}
    return label_studio.write_tasks(str(folder), query, classes=classes, **options)


def load(files: tuple[str, ...]) -> list[dict[str, Any]]:
    return [task for file in files for task in json.loads(Path(file).read_text())]


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


# --- Label Studio -----------------------------------------------------------------------------


def test_tasks_carry_image_prediction_and_reason(
    tmp_path: Path, make_query: Make, classes: tuple[str, ...]
) -> None:
    query = make_query()
    written = ask(tmp_path, query, classes)
    assert (written.num_tasks, written.num_unreadable) == (8, 0)
    assert [Path(file).name for file in written.files] == ["tasks-0001.json"]
    tasks = load(written.files)
    assert [task["data"]["image_id"] for task in tasks] == query["image_id"].to_pylist()
    assert {picture(task["data"].pop("image")).size for task in tasks} == {(40, 30)}
    reason = "the peers disagree: <i>cat</i> or dog"
    data = {"round": 2, "predicted": "dog", "confidence": 0.85, "reason": reason}
    assert tasks[1]["data"] == {"image_id": query["image_id"][1].as_py(), **data}
    choice = {"type": "choices", "value": {"choices": ["dog"]}}
    result = [{"from_name": "choice", "to_name": "image", **choice}]
    assert tasks[1]["predictions"] == [{"model_version": "m/1", "score": 0.85, "result": result}]


def test_tasks_are_in_the_order_of_the_query(
    tmp_path: Path, make_query: Make, classes: tuple[str, ...]
) -> None:
    query = make_query(position=list(range(8))[::-1])
    ids = [task["data"]["image_id"] for task in load(ask(tmp_path, query, classes).files)]
    assert ids == query["image_id"].to_pylist()[::-1]


def test_files_are_cut_by_number_and_by_size(
    tmp_path: Path,
    make_query: Make,
    classes: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = load(ask(tmp_path / "1", make_query(), classes).files)
    monkeypatch.setattr(label_studio, "MAX_TASKS", 3)
    by_number = ask(tmp_path / "2", make_query(), classes).files
    assert [len(load((file,))) for file in by_number] == [3, 3, 2]
    monkeypatch.setattr(label_studio, "MAX_BYTES", 10)
    by_size = ask(tmp_path / "3", make_query(), classes).files
    assert [len(load((file,))) for file in by_size] == [1] * 8
    assert whole == load(by_number) == load(by_size)


def test_an_empty_query_is_an_empty_list(
    tmp_path: Path, make_query: Make, classes: tuple[str, ...]
) -> None:
    written = ask(tmp_path, make_query().slice(0, 0), classes)
    assert load(written.files) == []


def test_large_images_shrink_and_bad_ones_get_a_placeholder(
    tmp_path: Path, make_query: Make, classes: tuple[str, ...]
) -> None:
    Image.new("RGB", (1500, 600)).save(tmp_path / "large.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    uris = [str(tmp_path / name) for name in ("large.png", "bad.png", "absent.png")]
    nothing = [None] * 3 + ["cat"] * 5
    query = make_query(uri=uris + [uris[0]] * 5, confidence=[float("nan")] * 8, label=nothing)
    written = ask(tmp_path / "out", query, classes)
    tasks = load(written.files)
    assert written.num_unreadable == 2
    sizes = [picture(task["data"]["image"]).size for task in tasks[:3]]
    assert sizes == [(512, 205), (192, 144), (192, 144)]
    assert tasks[0]["data"]["confidence"] is None
    assert ["predictions" in task for task in tasks] == [False] * 3 + [True] * 5
    assert tasks[4]["predictions"][0]["score"] is None


def test_addresses_pass_through(tmp_path: Path, make_query: Make, classes: tuple[str, ...]) -> None:
    remote = ["https://e.org/1.png?sig=a", "s3://b/2.png", "gs://b/3.png", "s3://b/4.png"]
    query = make_query(uri=remote * 2)
    for media in ("auto", "uri"):
        tasks = load(ask(tmp_path / media, query, classes, media=media).files)
        assert [task["data"]["image"] for task in tasks] == remote * 2
    mixed = make_query(uri=[*remote[:3], *make_query()["uri"].to_pylist()[3:]])
    images = [task["data"]["image"] for task in load(ask(tmp_path, mixed, classes).files)]
    assert images[:3] == remote[:3]
    assert all(image.startswith("data:image/jpeg") for image in images[3:])


@pytest.mark.parametrize("uri", ["/photos/1.png", "s3://b/x.parquet#3"])
def test_what_has_no_address_of_its_own_goes_inline(
    tmp_path: Path, make_query: Make, classes: tuple[str, ...], uri: str
) -> None:
    with pytest.raises(InputError, match="use media inline"):
        ask(tmp_path, make_query(uri=[uri] * 8), classes, media="uri")


def test_a_prediction_must_be_a_class(tmp_path: Path, make_query: Make) -> None:
    with pytest.raises(InputError, match="'Ünicorn' is not among the 3"):
        ask(tmp_path, make_query(), ("cat", "dog", 'a <b> & "c"'))


def test_choices_keep_names_and_order() -> None:
    names = ("zebra", "ant", '<b a="1">&\'', "two\nlines\tand tab", "ü 🦓")
    root = ElementTree.fromstring(labeling_config(names))  # noqa: S314  # our own text
    choices = root.find("Choices")
    assert choices is not None
    shown = [choice.get("value") for choice in choices]
    assert shown == [*names, "None of these classes"]
    assert choices.get("layout") == "inline"
    assert 'layout="select"' in labeling_config([f"class {i}" for i in range(31)])


def test_a_name_with_a_dollar_is_no_field_of_the_task(tmp_path: Path, make_query: Make) -> None:
    names = ("$image", "cat", "a$b")
    written = ask(tmp_path, make_query(label=["$image", "a$b"] * 4), names, media="inline")
    shown = re.findall(r'<Choice value="(.*?)"', Path(written.config).read_text())
    assert shown[:3] == ["\u200b$image", "cat", "a$b"]
    tasks = json.loads(Path(written.files[0]).read_text())
    said = [task["predictions"][0]["result"][0]["value"]["choices"][0] for task in tasks]
    assert set(said) == {"\u200b$image", "a$b"}
    assert [Names(names).find(choice) for choice in shown[:3]] == list(names)


@pytest.mark.parametrize("name", ["None of these classes", " none of these CLASSES", "", "\0"])
def test_names_that_label_studio_cannot_have(name: str) -> None:
    with pytest.raises(InputError, match="rename the class"):
        labeling_config(("cat", name))


# --- the page ---------------------------------------------------------------------------------

HOSTILE = ("cat", "</script><script>alert(1)</script>", "skip", 'two  spaces, "q"\nand line')


def page_of(tmp_path: Path, query: pa.Table, classes: tuple[str, ...]) -> str:
    write_contact_sheet(str(tmp_path / "s.html"), query, classes=classes, max_pixels=LIMIT)
    return (tmp_path / "s.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(tmp_path: Path, make_query: Make) -> None:
    uris = ["/absent.png", *make_query()["uri"].to_pylist()[1:]]
    query = make_query(label=[*HOSTILE, *HOSTILE], uri=uris)
    page = page_of(tmp_path, query, HOSTILE)
    assert page.count("<article") == 8
    assert page.count("Unreadable image") == 1
    assert "default-src 'none'" in page
    assert "alert(1)</script>" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert all(image_id in page for image_id in query["image_id"].to_pylist())
    assert "&lt;i&gt;cat&lt;/i&gt;" in page


def test_an_empty_page(tmp_path: Path, make_query: Make) -> None:
    assert "nothing to ask" in page_of(tmp_path, make_query().slice(0, 0), HOSTILE)


ANSWER = """<script>
const pick = (card, place) => {
  const select = cards[card].querySelector("select");
  fill(select);
  select.selectedIndex = place;
  select.dispatchEvent(new Event("change"));
};
cards[0].querySelector(".agree").click();
[[1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 1]].forEach(([card, place]) => pick(card, place));
pick(6, 0);
document.getElementById("annotator").value = 'Zoë "Z"';
const csv = document.createElement("pre");
csv.id = "csv";
csv.textContent = btoa(String.fromCharCode(...new TextEncoder().encode(toCsv())));
document.body.append(csv);
</script>"""


def test_answers_of_the_page_can_be_read(tmp_path: Path, make_query: Make) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    query = make_query(label=[HOSTILE[1]] * 8)
    page = page_of(tmp_path, query, HOSTILE)
    # Only our own script may run on the page, so the one that answers needs the policy removed.
    page = re.sub('<meta http-equiv="Content-Security-Policy".*>', "", page)
    (tmp_path / "s.html").write_text(page.replace("</body>", ANSWER + "</body>"), encoding="utf-8")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [chromium, *quiet, profile, "--dump-dom", (tmp_path / "s.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search('<pre id="csv">(.*)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    assert "6 of 8 answered" in done.stdout
    (tmp_path / "answers.csv").write_bytes(base64.b64decode(found[1]))
    rows = read_answers(str(tmp_path / "answers.csv"), HOSTILE).to_pylist()
    assert [row["image_id"] for row in rows] == query["image_id"].to_pylist()[:6]
    kinds = [("label", HOSTILE[i]) for i in (1, 1, 2, 3)] + [("skip", None), ("none", None)]
    assert [(row["kind"], row["label"]) for row in rows] == kinds
    assert {row["annotator"] for row in rows} == {'Zoë "Z"'}
    assert all(row["answered_at"] for row in rows)
