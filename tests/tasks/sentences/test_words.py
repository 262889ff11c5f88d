"""The choice in words: why, and a table."""

from tasks.sentences import words
from tasks.sentences.record import Record, Weighed


def row(name: str, information: float, share: float = 1, **dropped: int) -> Weighed:
    return Weighed(
        name=name,
        mutual_information=information,
        least_share=share,
        least_class="cat",
        num_classes=2,
        num_sentences=1200,
        dropped=dropped,
    )


def test_the_reason_names_what_decided() -> None:
    plain = row("plain", 0.5)
    assert words.why("plain", [plain]).endswith(
        "there is no other set that tells the images apart better"
    )
    assert words.why("plain", [plain, row("file", 0.4)]).startswith("plain: no other set tells")
    assert words.why("file", [plain, row("file", 0.6)]) == (
        "file: they tell the images apart best (mutual information 0.600, plain 0.500), and every "
        "class keeps its share"
    )
    assert words.why("plain", [plain, row("file", 0.9, 0.25)]) == (
        "plain: file would leave 'cat' 0.25 of its share, less than 0.5"
    )

    assert words.why("plain", [plain, row("file", 0.9)]) == (
        "plain: fewer than 5 images a class are too few to prefer file"
    )


def test_a_set_that_takes_a_class_away_is_named_beside_the_one_that_was_chosen() -> None:
    sets = [row("plain", 0.5), row("file", 0.6), row("endpoint", 0.9, 0.1)]
    assert words.why("file", sets).endswith(
        "; endpoint would leave 'cat' 0.10 of its share, less than 0.5"
    )


def test_the_table_has_a_line_for_each_set_and_marks_the_chosen_one() -> None:
    record = Record(
        chosen="file",
        why="",
        backbone="b",
        candidates=(row("plain", 0.5), row("file", 0.6, 0.75, empty=1, repeated=12)),
        sentences={},
    )
    header, plain, own = words.table(record)
    assert header.startswith("  sentences  mutual information")
    assert plain.startswith("  plain      0.500               1.00 of plain (cat)")
    assert own.startswith("* file       0.600               0.75 of plain (cat)")
    assert own.endswith("1,200 of 2 classes  12 repeated, 1 empty")
