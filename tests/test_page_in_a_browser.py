"""The page on which people answer, in a real browser: keys, mouse, grid, two people, no network."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tasks.answering.listed import ListedWork
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.journal import Journal, Said
from tests.worlds.browser import CHROMIUM, DRIVER, Browser
from tests.worlds.pages import decided, drawn_questions, query_of, served_page
from tests.worlds.served import free_port

CLASSES = ("cat", "dog", "owl", "red panda", "<b>&", "seal")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Open = Callable[[str], Browser]


@pytest.fixture
def browse() -> Iterator[Open]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver")
    with ExitStack() as ends:

        def opened(address: str) -> Browser:
            browser = Browser(address)
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


def test_a_thousand_classes_and_five_thousand_questions(tmp_path: Path, browse: Open) -> None:
    classes = tuple(f"kind {number} of thing" for number in range(1000))
    with served_page(listed(tmp_path, 5000, classes)) as address:
        page = browse(address)
        page.script(
            "const find = document.getElementById('find'); find.value = '99';"
            "find.dispatchEvent(new Event('input'))"
        )
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


@pytest.mark.parametrize("width", [320, 768, 2560])
def test_narrow_and_wide(tmp_path: Path, browse: Open, width: int) -> None:
    with served_page(listed(tmp_path, 40)) as address:
        page = browse(address)
        page.resize(width)
        fits = "return document.documentElement.scrollWidth <= innerWidth"
        assert page.script("return innerWidth") == width
        assert page.script(fits)
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
