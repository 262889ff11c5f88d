"""Answers a minute of a scripted person: keys on the page against the drop-downs of before.

    python -m tests.bench.answering [--number 40] [--classes 25]

Both are driven in one Chromium by real key presses and clicks. How long a person takes for each of
them is the keystroke-level model's (Card, Moran & Newell 1980): 0.2 s a key, 1.1 s to point, 0.1 s
a click, 0.4 s between mouse and keyboard; looking and deciding take equally long in both, and are
left out. What the page itself takes is measured, and added. A third of the images is not what the
model says: half of these is its second guess, the rest any class.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tasks.answering.desk import Question
from tasks.answering.listed import ListedWork
from tasks.answers.contact_sheet import write_contact_sheet
from tests.bench.measure import say
from tests.worlds.browser import Browser
from tests.worlds.pages import drawn_questions, query_of, served_page

KEY, POINT, CLICK, HOME = 0.2, 1.1, 0.1, 0.4  # seconds


def true_label(place: int, question: Question, classes: tuple[str, ...]) -> str:
    """Return what an image shows: mostly what the model says."""
    if place % 3 < 2:  # two of three
        return str(question.label)
    if place % 2:
        return question.likely[1][0]
    return classes[(7 * place + 11) % len(classes)]


def by_key(page: Browser, question: Question, label: str) -> float:
    """Answer on the page, and return the seconds of a person's hands."""
    names = [name for name, _ in question.likely]
    if label == question.label:
        page.press(Keys.ENTER)
        return KEY
    if label in names:
        page.press(str(names.index(label) + 1))
        return KEY
    page.press("/", label, Keys.ENTER)  # the whole name; its beginning would do
    return KEY * (len(label) + 2)


def by_menu(page: Browser, place: int, question: Question, label: str) -> float:
    """Answer on a contact sheet as it was: its tick for what the model says, else its menu."""
    card = page.driver.find_elements("css selector", "article")[place]
    if label == question.label:
        card.find_element("css selector", ".agree").click()
        return POINT + CLICK
    menu = card.find_element("css selector", "select")
    menu.click()
    Select(menu).select_by_visible_text(label)
    menu.send_keys(Keys.ESCAPE)
    return 2 * (POINT + CLICK) + POINT  # the menu, the class, and scrolling to it


@contextmanager
def opened(address: str) -> Iterator[Browser]:
    """Open a page in a browser of its own."""
    page = Browser(address)
    try:
        yield page
    finally:
        page.driver.quit()


def measured(answer: Callable[[int], float], number: int) -> tuple[float, float]:
    """Return seconds of hands, and of the page, for each answer."""
    hands, started = 0.0, time.perf_counter()
    for place in range(number):
        hands += answer(place)
    return hands / number, (time.perf_counter() - started) / number


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=40)
    parser.add_argument("--classes", type=int, default=25)
    asked = parser.parse_args()
    classes = tuple(f"kind {number} of thing" for number in range(asked.classes))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = drawn_questions(folder, asked.number, classes)
        truth = [true_label(place, one, classes) for place, one in enumerate(questions)]
        sheet = folder / "sheet.html"
        write_contact_sheet(str(sheet), query_of(questions), classes=classes, max_pixels=10**6)
        with opened(sheet.as_uri()) as page:
            menus = measured(lambda at: by_menu(page, at, questions[at], truth[at]), asked.number)
        work = ListedWork("Photos", str(folder / "asked"), classes, questions)
        with served_page(work) as address, opened(address) as page:
            keys = measured(lambda at: by_key(page, questions[at], truth[at]), asked.number)
            page.wait_until_saved()
    say(f"{asked.number} images, {asked.classes} classes")
    for title, (hands, spent) in (("menus of a contact sheet", menus), ("keys of the page", keys)):
        say(f"{title:<26} hands {hands:5.2f} s, page and driver {spent:5.2f} s an answer")
    say(f"hands alone: {60 / menus[0]:.0f} and {60 / keys[0]:.0f} answers a minute")


if __name__ == "__main__":
    main()
