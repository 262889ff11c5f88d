"""Rows of delimited text, where several readings are possible and none is guessed.

`csv.Sniffer` settles for the likeliest character. Here a delimiter is a candidate if it cuts all
rows alike, and whoever asks decides with what the cells mean, or refuses.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DELIMITERS = {"\t": "tab", ";": "';'", "|": "'|'", ",": "','"}
_RULE = re.compile(r"\s*(?::?-{2,}:?)?\s*")  # below the header of a table in Markdown, or empty
_SEPARATOR_LINE = re.compile(r"\s*sep=(.)\s*(?:\n|$)", re.IGNORECASE)  # Excel's own first line


class Row(NamedTuple):
    """A row: the number of its first line, and its cells without spaces around them."""

    line: int
    cells: list[str]


class Ragged(ValueError):
    """A row has another number of cells than the first one; the message says which."""


class UnclosedQuote(ValueError):
    """A quote is opened and not closed, or followed by text; the message names the line."""


def split(text: str, delimiter: str) -> list[Row]:
    """Return the rows of a text that are not blank, nor the rule of a table in Markdown.

    Raises:
        UnclosedQuote: the quotes do not fit this delimiter.
    """
    text = without_separator_line(text)
    source = io.StringIO(text, newline="")
    spaces = delimiter != "\t"
    reader = csv.reader(source, delimiter=delimiter, strict=True, skipinitialspace=spaces)
    rows, line = [], 1
    try:
        for cells in reader:
            is_rule = delimiter == "|" and all(map(_RULE.fullmatch, cells))
            if any(map(str.strip, cells)) and not is_rule:
                rows.append(Row(line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        msg = f"line {line}: {error}"
        raise UnclosedQuote(msg) from error
    return rows


def without_separator_line(text: str) -> str:
    """Return a text whose line `sep=;` is blank, so that the others keep their numbers."""
    match = _SEPARATOR_LINE.match(text)
    return "\n" + text[match.end() :] if match else text


def candidates(text: str) -> dict[str, list[Row]]:
    """Return the rows by each delimiter that cuts all of them into as many cells, two or more."""
    match = _SEPARATOR_LINE.match(text)
    found = {}
    for delimiter in match[1] if match else DELIMITERS:
        try:
            rows = split(text, delimiter)
        except UnclosedQuote:
            continue
        if rows and {len(row.cells) for row in rows} == {len(rows[0].cells)} != {1}:
            found[delimiter] = rows
    return found


def check_even(rows: Sequence[Row]) -> None:
    """Refuse rows with more cells than the first one.

    Raises:
        Ragged: says which row, and how many cells it has.
    """
    width = len(rows[0].cells) if rows else 0
    for row in rows:
        if any(row.cells[width:]):
            msg = (
                f"line {row.line} has {len(row.cells)} cells and the first row {width}; put a cell "
                "that holds the separator in double quotes"
            )
            raise Ragged(msg)


def column(rows: Iterable[Row], position: int) -> list[str]:
    """Return the cells of a column, empty where a row is shorter."""
    return [row.cells[position] if position < len(row.cells) else "" for row in rows]


def show(rows: Sequence[Row], limit: int = 3) -> str:
    """Return the first rows as read, for messages: `['id', 'name'], ['0', 'cat']`."""
    return ", ".join(str([cell[:40] for cell in row.cells[:8]]) for row in rows[:limit])
