"""The page on which people answer: by its commands, by kill -9, and in a real browser."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tasks.active.rounds import open_rounds
from tasks.answering.desk import Question
from tasks.answering.listed import ListedWork
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.journal import Journal, Said
from tasks.answers.record import merge
from tasks.answers.schema import QUERY
from tasks.specs import RuntimeSpec
from tests.worlds.commands import Place, coft
from tests.worlds.images import write_images
from tests.worlds.pages import (
    Visitor,
    drawn_questions,
    page_in_a_process,
    served_page,
    visiting,
    write_predictions,
)
from tests.worlds.served import free_port

CLASSES = ("cat", "dog", "owl", "red panda", "<b>&", "seal")
PER_ROUND = 6
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def decided(folder: Path) -> dict[str, str]:
    rows = merge(str(folder)).to_pylist()
    return {row["image_id"]: row["label"] or row["kind"] for row in rows}


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prefect_session", "ray_session")
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # mlflow 3.17
def test_rounds_go_on_while_somebody_answers(tmp_path: Path, tiny_clip: Path) -> None:
    """The first question is made by the page itself, and the next round by its answers."""
    write_images(tmp_path)
    place, port = Place(tmp_path, tiny_clip), free_port()
    words = ["--budget", 2 * PER_ROUND, "--per-round", PER_ROUND, "--max-similarity", 1]
    coft("active", "start", *place.about, *place.learner, *words, "--name", "page")
    seen: list[dict[str, Any]] = []

    def answer_two_rounds(visitor: Visitor) -> None:
        for _ in range(2):
            asked = visitor.wait_for_questions()
            assert len(asked) == PER_ROUND
            assert all(len(one["likely"]) > 1 for one in asked)
            visitor.answer(*((one["image_id"], "label", one["label"]) for one in asked))
        seen.append(visitor.wait_for_the_end())

    folder = place.workspace / "rounds" / "page"
    client = visiting(port, folder, answer_two_rounds)
    named = ["--name", "page", "--port", port, "--no-browser", "--workspace", place.workspace]
    printed = coft("active", "label", *named)
    client.join()
    assert [one["num_labels"] for one in seen[0]["rounds"]] == [0, PER_ROUND, 2 * PER_ROUND]
    assert seen[0]["failure"] is None
    assert "Finished: the budget is spent" in printed
    assert open_rounds(RuntimeSpec(workspace=str(place.workspace)), "page").finished
    assert len(decided(folder)) == 2 * PER_ROUND


def test_answers_about_predictions_become_files(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 8, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, workspace = free_port(), tmp_path / "workspace"

    def answer_some(visitor: Visitor) -> None:
        asked = visitor.questions()
        assert [one["label"] for one in asked] == [one.label for one in questions]
        visitor.answer((asked[0]["image_id"], "label", "owl"), (asked[1]["image_id"], "none", None))

    folder = workspace / "asked" / "below"
    client = visiting(port, folder, answer_some)
    words = ["--from", tmp_path / "predict.parquet", "--below", 0.6, "--port", port]
    printed = coft("label", *words, "--no-browser", "--workspace", workspace)
    client.join()
    assert f"--answers {folder}/answers.csv" in printed
    rows = pacsv.read_csv(folder / "answers.csv").to_pylist()
    assert [(row["uri"], row["label"], row["kind"]) for row in rows] == [
        (questions[0].uri, "owl", "label"),
        (questions[1].uri, "none of these classes", "none"),
    ]


def test_a_test_set_of_a_file_is_measured_and_written(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 40, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, workspace = free_port(), tmp_path / "workspace"
    truth = {one.image_id: str(one.label) for one in questions}
    told: list[str] = []

    def answer_most(visitor: Visitor) -> None:
        asked = visitor.questions(30)
        assert {one["label"] for one in asked} == {None}  # what the model says is not told
        assert all(truth[one["image_id"]] in dict(one["likely"]) for one in asked)
        visitor.answer(*((one["image_id"], "label", truth[one["image_id"]]) for one in asked[3:]))
        visitor.answer(*((one["image_id"], "label", "cat") for one in asked[:3]))
        told.extend(visitor.state()["measured"])

    folder = workspace / "asked" / "as-test"
    client = visiting(port, folder, answer_most)
    words = ["--from", tmp_path / "predict.parquet", "--as-test", "--port", port, "--no-browser"]
    printed = coft("label", *words, "--workspace", workspace)
    client.join()
    assert told[0].startswith("With 30 answers: adapted 0.9")
    assert f"--test {folder}/test.parquet" in printed
    table = pq.read_table(folder / "test.parquet")
    assert table.num_rows == 30
    assert set(table.column_names) == {"uri", "label"}


def test_kill_9_after_each_of_20_answers_loses_none(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 24, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, folder = free_port(), tmp_path / "workspace" / "asked" / "below"
    words = ["label", "--from", tmp_path / "predict.parquet", "--port", port, "--no-browser"]
    for number in range(20):
        place = ["--workspace", tmp_path / "workspace"]
        with page_in_a_process(*words, *place) as process, Visitor(port, folder) as visitor:
            assert visitor.state()["done"] == number
            image = visitor.questions(1)[0]["image_id"]
            visitor.answer((image, "label", CLASSES[number % 6]))
            process.kill()
        assert decided(folder)[image] == CLASSES[number % 6]
    assert len(decided(folder)) == 20


def test_a_second_page_of_the_same_questions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "predict.parquet", drawn_questions(tmp_path, 4, CLASSES))
    port, workspace = free_port(), tmp_path / "workspace"
    words = ["--from", tmp_path / "predict.parquet", "--no-browser", "--workspace", workspace]
    with page_in_a_process("label", *words, "--port", port):
        Visitor(port, workspace / "asked" / "below").__exit__()
        with pytest.raises(AssertionError):
            coft("label", *words)
    assert "another page asks these questions already" in capsys.readouterr().err


# --- a real browser -------------------------------------------------------------------------------


class Browser:
    """Chromium on a page; what it says is what a person sees."""

    def __init__(self, address: str, width: int = 1280, height: int = 800) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(str(DRIVER))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_window_size(width, height)
        self.driver.get(address)
        if address.startswith("http"):
            self.until(lambda: self.text("question") or self.text("waiting"))

    def until(self, holds: Callable[[], Any], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.driver.find_element("tag name", "body").text
            time.sleep(0.02)

    def find(self, name: str) -> WebElement:
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        return self.find(name).text

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def shown(self) -> str:
        """Return the id of the image that is asked about."""
        source = self.find("image").get_attribute("src") or ""
        return source.rpartition("/")[2].partition("?")[0]

    def wait_until_saved(self) -> None:
        self.until(lambda: self.text("saved") == "All saved")

    def complaints(self) -> list[str]:
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)


Open = Callable[..., Browser]


@pytest.fixture
def browse() -> Iterator[Open]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver")
    with ExitStack() as ends:

        def opened(address: str, **more: int) -> Browser:
            browser = Browser(address, **more)
            ends.callback(browser.driver.quit)
            return browser

        yield opened


def listed(folder: Path, number: int, classes: tuple[str, ...] = CLASSES) -> ListedWork:
    questions = drawn_questions(folder, number, classes)
    return ListedWork("Photos", str(folder / "asked"), classes, questions)


def test_a_round_by_keyboard(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 9)) as address:
        page = browse(address)
        assert "token" not in page.driver.current_url
        page.press("1", "2", Keys.ENTER, "n", "s")
        page.press("/", "red", Keys.ENTER)
        page.press("/", "zzz", Keys.ENTER, Keys.ESCAPE)  # no such class: nothing is answered
        page.press("2", "u", Keys.ENTER)
        page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, "3", Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
        page.press("z")
        assert "zoomed" in str(page.find("frame").get_attribute("class"))
        page.press("z", "1", "1")
        page.wait_until_saved()
        page.until(lambda: "All answered" in page.text("waiting"))
        assert page.complaints() == []
    answers = [decided(tmp_path / "asked")[f"{number:064x}"] for number in range(9)]
    assert answers[:5] == ["cat", "owl", "owl", "none", "skip"]
    assert answers[5:] == [CLASSES[(5 + 2) % 6], "cat", "dog", "owl"]


def test_a_round_by_mouse(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 5)) as address:
        page = browse(address)
        buttons = page.driver.find_elements("css selector", "#likely button")
        assert [button.text.split("\n")[1] for button in buttons] == list(CLASSES[:5])
        buttons[1].click()
        page.find("none").click()
        page.find("skip").click()
        page.find("undo").click()
        page.find("find").click()
        page.press("<b>")
        page.driver.find_element("css selector", "#found li").click()
        page.find("on").click()
        page.driver.find_elements("css selector", "#likely button")[0].click()
        page.wait_until_saved()
        page.find("annotator").clear()
        page.find("annotator").send_keys("ben", Keys.ENTER, Keys.TAB)
        page.until(lambda: page.shown() == f"{3:064x}")
        assert page.complaints() == []
    answers = decided(tmp_path / "asked")
    assert [answers.get(f"{n:064x}") for n in range(5)] == ["dog", "none", "<b>&", None, "<b>&"]


def test_many_at_once_in_the_grid(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 60, ("cat", "dog"))) as address:
        page = browse(address)
        page.press("g")
        page.until(lambda: len(tiles(page)) == 30)
        tiles(page)[0].click()
        shifted = ActionChains(page.driver).key_down(Keys.SHIFT).click(tiles(page)[4])
        shifted.key_up(Keys.SHIFT).perform()
        across = ActionChains(page.driver).click_and_hold(tiles(page)[7])
        across.move_to_element(tiles(page)[8]).move_to_element(tiles(page)[9]).release().perform()
        marked = [t.get_attribute("aria-selected") == "true" for t in tiles(page)]
        assert [place for place, yes in enumerate(marked) if yes] == [0, 1, 2, 3, 4, 7, 8, 9]
        page.press(Keys.ENTER)
        page.until(lambda: len(tiles(page)) == 22)
        page.press("a", Keys.ENTER)
        page.until(lambda: tiles(page) == [])
        page.wait_until_saved()
        page.press("u")  # one of them, and back to one image at a time
        page.until(lambda: "Taken back" in page.text("said"))
        page.wait_until_saved()
        assert page.complaints() == []
    answers = decided(tmp_path / "asked")
    assert len(answers) == 29
    assert set(answers.values()) == {"cat"}


def tiles(page: Browser) -> list[WebElement]:
    return page.driver.find_elements("css selector", "#tiles button")


def test_a_thousand_classes_and_five_thousand_questions_stay_instant(
    tmp_path: Path, browse: Open
) -> None:
    classes = tuple(f"kind {number} of thing" for number in range(1000))
    with served_page(listed(tmp_path, 5000, classes)) as address:
        page = browse(address)
        searched = page.script(
            "const find = document.getElementById('find'); find.value = '99';"
            "const start = performance.now(); find.dispatchEvent(new Event('input'));"
            "return performance.now() - start"
        )
        assert searched < 200  # milliseconds, on a busy core; a few on a quiet one
        assert len(page.driver.find_elements("css selector", "#found li")) == 19
        page.press("/", "kind 998 ", Keys.ENTER)
        page.press(*[Keys.ENTER] * 30)
        page.wait_until_saved()
        assert page.complaints() == []
    answers = decided(tmp_path / "asked")
    assert answers[f"{0:064x}"] == classes[998]
    assert [answers[f"{n:064x}"] for n in range(1, 31)] == list(classes[1:31])


def test_two_browsers_get_different_images_and_see_what_they_disagree_about(
    tmp_path: Path, browse: Open
) -> None:
    with served_page(listed(tmp_path, 30), overlap=1) as address:
        one, two = browse(address), browse(address)
        rename(two, "ben")
        assert one.shown() != two.shown()
        one.press("1", "1")
        two.press("2", "2")
        one.wait_until_saved()
        two.wait_until_saved()
    assert len(decided(tmp_path / "asked")) == 4


def test_the_same_images_for_two_people(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 3), overlap=2) as address:
        one, two = browse(address), browse(address)
        rename(two, "ben")
        assert one.shown() == two.shown()
        one.press("1", "1", "1")
        two.press("1", "1", "2")
        two.until(lambda: "agree on 2 of 3" in two.text("people"))
        two.until(lambda: "1 image with answers that contradict" in two.text("conflicts"))
        two.find("conflicts").click()
        two.driver.find_element("css selector", "#conflicts button").click()
        two.press("1")
        two.until(lambda: "agree on 3 of 3" in two.text("people"))
    assert list(decided(tmp_path / "asked").values()) == ["cat", "dog", "owl"]


def rename(page: Browser, name: str) -> None:
    page.find("annotator").clear()
    page.find("annotator").send_keys(name, Keys.TAB)
    page.until(lambda: page.find("one").is_displayed())
    page.until(page.shown)


def test_what_is_answered_while_the_server_is_gone_arrives_when_it_is_back(
    tmp_path: Path, browse: Open
) -> None:
    work = listed(tmp_path, 9)
    port = free_port()
    with served_page(work, port=port) as address:
        page = browse(address)
        page.press("1")
        page.wait_until_saved()
    page.press("2", "2")
    page.until(lambda: "Not saved yet" in page.text("trouble"))
    assert page.text("saved") == "2 not saved yet"
    assert len(decided(tmp_path / "asked")) == 1
    with served_page(listed(tmp_path, 9), port=port):
        page.wait_until_saved()
    assert list(decided(tmp_path / "asked").values()) == ["cat", "owl", "red panda"]


def test_a_tab_that_is_opened_again_goes_on(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 9)) as address:
        page = browse(address)
        page.press("1", "1")
        page.wait_until_saved()
        page.driver.refresh()
        page.until(lambda: page.shown() == f"{2:064x}")
        page.until(lambda: page.text("count") == "2 of 9 answered")


@pytest.mark.parametrize(("width", "height"), [(500, 700), (2560, 1400)])
def test_narrow_and_wide(tmp_path: Path, browse: Open, width: int, height: int) -> None:
    with served_page(listed(tmp_path, 40)) as address:
        page = browse(address, width=width, height=height)
        fits = "return document.documentElement.scrollWidth <= innerWidth"
        assert page.script(fits)
        page.script("document.body.style.width = '320px'")  # narrower than Chromium's windows
        assert page.script("return document.body.scrollWidth <= 320") or width > 500
        sizes = page.script(
            "return [...document.querySelectorAll('#likely button, .others button')]"
            ".map((one) => one.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 44  # pixels that a finger hits
        page.press("g")
        page.until(lambda: len(tiles(page)) > 3)
        assert page.script(fits)


def test_everything_that_acts_has_a_name_for_a_screen_reader(tmp_path: Path, browse: Open) -> None:
    with served_page(listed(tmp_path, 9)) as address:
        page = browse(address)
        acts = page.driver.find_elements("css selector", "button, input, select, progress, main")
        shown = [one for one in acts if one.is_displayed()]
        assert len(shown) > 12
        nameless = [one for one in shown if not one.accessible_name and one.tag_name != "main"]
        assert [one.get_attribute("outerHTML") for one in nameless] == []
        assert page.find("image").get_attribute("alt") == "Image 1, to be named"
        assert page.find("said").get_attribute("aria-live") == "polite"


def test_answers_of_a_file_join_those_of_the_page(tmp_path: Path, browse: Open) -> None:
    """`coft active answer` beside the page: its images are not asked any more."""
    work = listed(tmp_path, 6)
    with served_page(work) as address:
        page = browse(address)
        Journal(work.folder, "elsewhere").add("file", [Said(f"{5:064x}", "label", "cat")])
        page.press("1")
        page.wait_until_saved()
    assert len(decided(tmp_path / "asked")) == 2


def test_a_contact_sheet_has_the_same_keys_and_keeps_what_is_not_saved(
    tmp_path: Path, browse: Open
) -> None:
    questions = drawn_questions(tmp_path, 8, CLASSES)
    sheet = tmp_path / "sheet.html"
    write_contact_sheet(str(sheet), query_of(questions), classes=CLASSES, max_pixels=10**6)
    page = browse(sheet.as_uri())
    page.press("2", Keys.ENTER, "n", "s", "1", "u", "3", Keys.ARROW_LEFT, Keys.ENTER)
    assert page.text("count") == "5 of 8 answered"
    page.driver.refresh()
    page.until(lambda: page.text("count") == "5 of 8 answered")
    said = [line.split(",") for line in page.script("return toCsv()").splitlines()]
    assert [row[1].strip('"') for row in said[1:]] == [
        *("dog", "dog", "none of these classes", "skip", CLASSES[4])
    ]
    assert page.complaints() == []


def query_of(questions: list[Question]) -> pa.Table:
    rows = [
        {
            **one._asdict(),
            "likely": [{"label": name, "probability": share} for name, share in one.likely],
            "position": position,
        }
        for position, one in enumerate(questions)
    ]
    return pa.Table.from_pylist(rows, schema=QUERY)
