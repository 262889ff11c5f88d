"""The section on class sentences: the table, the choice, the question, and answers as text."""

from tasks.refs import SentencesRef
from tasks.sentences.record import FILE, Asked, Exchange, Record, Weighed
from tasks.storage.files import write_json
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import Run, page_of

HOSTILE = '</code><script>alert(1)</script>{{ 7 * 7 }}{"sentences": ["<b>"]}'


def weighed(name: str, information: float, share: float, dropped: dict[str, int]) -> Weighed:
    return Weighed(
        name=name,
        mutual_information=information,
        least_share=share,
        least_class="square",
        num_classes=4,
        num_sentences=12,
        dropped=dropped,
    )


def page_with(run: Run, asked: Asked | None) -> Page:
    record = Record(
        chosen="endpoint",
        why="endpoint: they tell the images apart best",
        backbone="b",
        candidates=(weighed("plain", 0.5, 1, {}), weighed("endpoint", 0.625, 0.75, {"empty": 2})),
        asked=asked,
        sentences={name: (f"a <i>{name}</i>.",) * 7 for name in run.classes},
    )
    write_json(f"{run.folder}/sentences/{FILE}", record)
    uri = f"{run.folder}/sentences"
    ref = SentencesRef(uri=uri, digest="s" * 16, file=f"{uri}/{FILE}", chosen="endpoint")
    return page_of(run.inputs().model_copy(update={"sentences": ref}))


def test_the_sets_are_shown_with_the_choice_and_the_sentences(run: Run) -> None:
    page = page_with(run, None)
    rows = page.table("Set", "Mutual information")
    assert [row[:3] for row in rows] == [
        ["plain", "0.500", "1.00"],
        ["endpointchosen", "0.625", "0.75"],
    ]
    assert [row[-1] for row in rows] == ["none", "2 empty"]
    assert "endpoint: they tell the images apart best" in page.prose
    first = page.table("Class", "Sentences")[0]
    assert first[0] == run.classes[0]
    assert first[1].endswith("and 2 more")


def test_an_answer_is_text_and_nothing_else(run: Run) -> None:
    exchange = Exchange(about="circle", answer=HOSTILE, dropped={"malformed": 1})
    asked = Asked(
        url="http://llm.example/v1",
        model="<model>",
        prompt="Write about {class}.",
        exchanges=(exchange,),
        num_calls=4,
        num_tokens=1234,
        failures={"no answer in time": 3},
    )
    page = page_with(run, asked)
    assert not page.all("script")
    assert "<i>circle" not in page.text
    row = page.table("Class", "Answer")[0]
    assert row == ["circle", HOSTILE, "1 malformed"]
    assert "no answer in time" in page.prose


def test_without_a_choice_there_is_no_section(usual: Page) -> None:
    assert "Class sentences" not in usual.prose
