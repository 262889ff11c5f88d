"""A file of class names: one a line, a column of a table, or JSON; refused where it is not certain.

What decides, in this order: what the person said (`--class-column`), a header row with a known
word, columns of numbers or WordNet ids beside one column of text, and a column of names beside one
of sentences. What remains is not guessed: the refusal shows the rows and the options.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import yaml

from tasks.annotations import delimited
from tasks.annotations.class_json import NoNames, Repeated, names_in, read
from tasks.annotations.delimited import DELIMITERS, Row
from tasks.annotations.header_words import ONLY_HEADERS, PRECISE, TITLES, WORDS
from tasks.annotations.spelling import fold
from tasks.specs import InputError

LINE = "line"  # as --class-column: each line is a name

_TABLES = (".csv", ".tsv", ".tab", ".psv")
_STRUCTURED = (".json", ".jsonl", ".ndjson", ".yaml", ".yml")
_ENDS = (" name", " names", " label", " class")
_AMOUNT = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_SYNSET = re.compile(r"n\d{8}")
_NUMBERED = re.compile(
    r"(?P<number>[(\[]?\d+|n\d{8})(?:(?P<mark>\s*[.:)\]=]|)\s+(?=\S)|(?P<tight>[.:)\]=])(?=\D))(?P<name>.+)"
)
_BULLET = re.compile(r"\s*[-*\u2022]\s+(?P<name>\S.*)")
_QUOTED = re.compile(r'"(?:[^"]|"")+"')
_NOT_NAMES = ("#", "//", "/*", "<")  # how comments and markup begin
_SENTENCE = 3  # words at least of a description


class Named(NamedTuple):
    """A class name, and the line that it was read from."""

    line: int
    name: str


class Names(NamedTuple):
    """Class names as read, and a few words on how they were read.

    Attributes:
        names: In the order of the file.
        reading: How they were read.
        descriptions: What a column of sentences beside the names says of each; none without one.
    """

    names: list[Named]
    reading: str
    descriptions: tuple[str, ...] = ()


class UncertainNames(InputError):
    """The names cannot be read, or in more than one way; the message shows rows and options."""


def parse(text: str, file_name: str, column: str | None = None) -> Names:
    """Return the class names in a text.

    Args:
        text: Of the file.
        file_name: Its ending tells a table from a list, and JSON from both.
        column: What the person said: `line`, the header of a column, or its number from 1.

    Raises:
        UncertainNames: there are several readings, or none.
    """
    suffix = "." + file_name.lower().rpartition(".")[2]
    if column != LINE and (structured := _structured(text, suffix)) is not None:
        return structured
    text = delimited.without_separator_line(_without_comments(text))
    if column is not None:
        return _chosen(text, column)
    lines = [Row(i, [line.strip()]) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    tables = delimited.candidates(text)
    if found := _by_header(text) or _by_content(tables):
        return found
    if tables:
        raise _uncertain(next(iter(tables.values())))
    return _by_line(text, lines, is_table=suffix in _TABLES)


def _structured(text: str, suffix: str) -> Names | None:
    """Return the names of JSON or YAML; None for other texts."""
    if suffix not in _STRUCTURED and text.lstrip()[:1] not in ("[", "{", "("):
        return None
    try:
        content = read(text, suffix)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        if suffix not in _STRUCTURED and not isinstance(error, Repeated):
            return None  # a name may begin with a bracket
        reason = " ".join(str(error).split())[:80]
        msg = f"expected {suffix[1:].upper()} with class names ({reason}); repair it"
        raise UncertainNames(f"{msg}, or give one name a line") from error
    try:
        return Names([Named(i, n) for i, n in enumerate(names_in(content), 1)], "JSON or YAML")
    except NoNames as error:
        msg = f"expected a list of class names, or names by number, got {error}"
        raise UncertainNames(f"{msg}; give one name a line") from error


def _without_comments(text: str) -> str:
    """Blank the lines that are comments; `#note` is one if it alone is no row of a table."""
    lines = ["" if line.strip() == "#" or line[:2] == "# " else line for line in text.split("\n")]
    plain = "\n".join(lines)
    without = "\n".join("" if line.startswith("#") else line for line in lines)
    is_table = plain != without and not delimited.candidates(plain)
    return without if is_table and delimited.candidates(without) else plain


# --- what the person said -----------------------------------------------------------------------


def _chosen(text: str, column: str) -> Names:
    """Return the names of the column that the person named."""
    if column == LINE:
        lines = enumerate(text.split("\n"), 1)
        return Names([Named(i, line.strip()) for i, line in lines if line.strip()], "whole lines")
    tables = _readable(text)
    tables.append((_numbered(text), "numbers"))
    for rows, how in tables:
        header = [_word(cell) for cell in rows[0].cells] if rows else []
        if column.isdecimal() and 0 < int(column) <= len(header):
            return _take(rows, int(column) - 1, how, has_header=False)
        if not column.isdecimal() and _word(column) in header:
            return _take(rows, header.index(_word(column)), how, has_header=True)
    rows = tables[0][0]
    msg = f"no column {column!r}; the first rows are {delimited.show(rows)}"
    raise UncertainNames(f"{msg}: say --class-column with a header, a number from 1, or line")


def _readable(text: str) -> list[tuple[list[Row], str]]:
    """Return the rows by each delimiter, those that are cut into most cells first."""
    found = []
    for delimiter, name in DELIMITERS.items():
        try:
            found.append((delimited.split(text, delimiter), f"split by {name}"))
        except delimited.UnclosedQuote:
            continue
    return sorted(found, key=lambda pair: -len(pair[0][0].cells) if pair[0] else 0)


def _take(rows: Sequence[Row], position: int, how: str, *, has_header: bool) -> Names:
    try:
        delimited.check_even(rows)
    except delimited.Ragged as error:
        raise UncertainNames(str(error)) from error
    width, title = len(rows[0].cells), repr(rows[0].cells[position])
    cells = delimited.column(rows, position)
    named = [Named(row.line, cell) for row, cell in zip(rows, cells, strict=True)]
    if nameless := [line for line, name in named[has_header:] if not name]:
        msg = f"line {nameless[0]} has no name in column {title}; add it, or remove the line"
        raise UncertainNames(msg)
    place = f"column {title}" if has_header else f"column {position + 1} of {width}"
    body = named[1:] if has_header else named
    reading = f"{place}, {how}" if width > 1 else f"below the header {title}"
    return Names(body, reading, _descriptions(rows[has_header:], position))


def _descriptions(rows: Sequence[Row], position: int) -> tuple[str, ...]:
    """Return the only column of sentences beside the names; nothing where there is none, or two."""
    others = [i for i, _ in enumerate(rows[0].cells) if i != position] if rows else []
    columns = (tuple(delimited.column(rows, i)) for i in others)
    found = [column for column in columns if all(len(c.split()) >= _SENTENCE for c in column)]
    return found[0] if len(found) == 1 else ()


# --- what the rows say --------------------------------------------------------------------------


def _by_header(text: str) -> Names | None:
    """Return the names below a header row that has a known word, or names beside numbers."""
    for delimiter in DELIMITERS:
        try:
            rows = delimited.split(text, delimiter)
        except delimited.UnclosedQuote:
            continue
        if len(rows) > 1 and len(rows[0].cells) > 1:
            position = _named_column(rows)
            if position is not None:
                how = f"split by {DELIMITERS[delimiter]}"
                return _take(rows, position, how, has_header=True)
    return None


def _named_column(rows: Sequence[Row]) -> int | None:
    """Return the column of names if the first row is a header; None if that is not certain."""
    header = [_word(cell) for cell in rows[0].cells]
    columns = [delimited.column(rows[1:], i) for i in range(len(header))]
    numbers = [_are_numbers(cells) for cells in columns]
    if any(_is_number(cell) and numbers[i] for i, cell in enumerate(rows[0].cells)):
        return None  # the first row has a number where all have one
    texts = [i for i, cells in enumerate(columns) if any(cells) and not numbers[i]]
    known = [i for i in texts if _is_word(header[i])]
    precise = [i for i in known if header[i] in PRECISE]
    if len(known) == 1 or len(precise) == 1:
        return (precise or known)[0]
    is_even = len({len(row.cells) for row in rows}) == 1
    is_header = _has_word(rows[0]) or (any(numbers) and is_even and len(rows) > 2)  # noqa: PLR2004
    return texts[0] if not known and len(texts) == 1 and is_header else None


def _by_content(tables: dict[str, list[Row]]) -> Names | None:
    """Return the names of a table without a header; None if two columns could be the names."""
    found = []
    for delimiter, rows in tables.items():
        if _has_word(rows[0]) and not any(map(_is_number, rows[0].cells)):
            continue  # a header that does not say which column has the names
        names = _of_rows(rows, f"split by {DELIMITERS.get(delimiter, repr(delimiter))}")
        others = tables.keys() - {delimiter}
        if names is not None and not _are_cut(names, others):
            found.append(names)
    return found[0] if len(found) == 1 else None


def _of_rows(rows: Sequence[Row], how: str) -> Names | None:
    """Return the names in one row, or in the column of rows that is the only one of names."""
    if len(rows) == 1:
        is_cut = any(
            cell.count(left) != cell.count(right)
            for cell in rows[0].cells
            for left, right in ("()", "[]", "{}")
        )
        return None if is_cut else Names([Named(rows[0].line, c) for c in rows[0].cells if c], how)
    columns = {i: delimited.column(rows, i) for i in range(len(rows[0].cells))}
    texts = {i: cells for i, cells in columns.items() if any(cells) and not _are_numbers(cells)}
    if len(texts) == 1 or _is_described(list(texts.values())):
        return _take(rows, next(iter(texts)), how, has_header=False)
    return None


def _are_cut(names: Names, others: Collection[str]) -> bool:
    """Return whether another separator is in all names, as in `cat;0` of `cat;0,5`."""
    return any(all(mark in name for _, name in names.names) for mark in others)


def _is_described(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether two columns are names and sentences about them."""
    if len(columns) != 2:  # noqa: PLR2004
        return False
    names, texts = columns
    longer = all(len(text) > len(name) for name, text in zip(names, texts, strict=True))
    return longer and all(len(text.split()) >= _SENTENCE for text in texts)


def _by_line(text: str, lines: Sequence[Row], *, is_table: bool) -> Names:
    """Return one name a line, without a header that can be nothing else."""
    if is_table:
        lines = _single_column(text)
    else:
        lines = [Row(line, [_unquoted(cells[0])]) for line, cells in lines]
    _check_lines(lines, is_table=is_table)
    bullets = [_BULLET.fullmatch(row.cells[0]) for row in lines]
    if len(lines) > 1 and all(bullets):
        listed = zip(lines, bullets, strict=True)
        return Names([Named(row.line, b["name"]) for row, b in listed if b], "behind bullets")
    numbered = _numbered(text)
    if lines and len(numbered) == len(lines):
        return _behind_numbers(numbered, lines)
    if lines and len(numbered) == len(lines) - 1 > 0 and _is_spaced_header(lines[0].cells[0]):
        return _take(numbered, 1, "behind numbers", has_header=False)
    first = _word(lines[0].cells[0]) if lines else ""
    has_header = first in ONLY_HEADERS or (is_table and _is_word(first))
    if (_is_word(first) or first in TITLES) and not has_header:
        word = lines[0].cells[0]
        msg = f"the first line, {word!r}, may be a header or a name: {delimited.show(lines)}"
        raise UncertainNames(f"{msg}; say --class-column {word} or --class-column line")
    if has_header:
        return _take(lines, 0, "", has_header=True)
    return Names([Named(line, cells[0]) for line, cells in lines], "one name a line")


def _unquoted(line: str) -> str:
    return line[1:-1].replace('""', '"') if _QUOTED.fullmatch(line) else line


def _check_lines(lines: Sequence[Row], *, is_table: bool) -> None:
    """Refuse lines that may be something else than names."""
    doubts = [row for row in lines if row.cells[0].startswith(_NOT_NAMES) and not is_table]
    if doubts:
        msg = f"line {doubts[0].line}, {doubts[0].cells[0]!r}, may be a name, a comment or markup"
        raise UncertainNames(f"{msg}; write '# ' before a comment, or say --class-column line")
    for mark in () if is_table else DELIMITERS:
        if sum(row.cells[0].endswith(mark) for row in lines) * 2 > len(lines):
            msg = f"most lines end in {DELIMITERS[mark]}: {delimited.show(lines)}"
            raise UncertainNames(f"{msg}; say --class-column 1 or --class-column line")


def _single_column(text: str) -> list[Row]:
    """Return the rows of a table that no delimiter cuts alike; its cells may be quoted."""
    try:
        rows = delimited.split(text, ",")
    except delimited.UnclosedQuote as error:
        msg = f"expected a table of class names ({error}); close the quotes, or write them twice"
        raise UncertainNames(msg) from error
    most = len(rows) // 2
    others = (_num_cut(text, mark) for mark in DELIMITERS)
    if any(len(row.cells) > 1 for row in rows) or any(count > most for count in others):
        raise _uncertain(rows)
    return rows


def _num_cut(text: str, delimiter: str) -> int:
    """Return how many rows a delimiter cuts, if it may be one."""
    try:
        return sum(len(row.cells) > 1 for row in delimited.split(text, delimiter))
    except delimited.UnclosedQuote:
        return 0


def _numbered(text: str) -> list[Row]:
    """Return lines such as `0: cat` as a number and a name; fewer rows if some are different."""
    matches = ((i, _NUMBERED.fullmatch(line.strip())) for i, line in enumerate(text.split("\n"), 1))
    return [
        Row(i, [m["number"] + (m["mark"] or m["tight"] or "").strip(), m["name"]])
        for i, m in matches
        if m
    ]


def _is_spaced_header(line: str) -> bool:
    """Return whether a line is two headers, one of them of names: `id name`."""
    headers = line.split()
    return len(headers) == 2 and _has_word(Row(1, headers))  # noqa: PLR2004


def _behind_numbers(rows: Sequence[Row], lines: Sequence[Row]) -> Names:
    """Return what stands behind numbers that count the lines, or behind WordNet ids."""
    marks = [row.cells[0] for row in rows]
    if all(map(_SYNSET.fullmatch, marks)) or (
        _counts(marks) and not any(mark.isdecimal() for mark in marks) and _are_spaced(rows, lines)
    ):
        return _take(rows, 1, "behind numbers", has_header=False)
    if len(rows) > 1 and (_counts(marks) or not any(mark.isdecimal() for mark in marks)):
        shown = delimited.show(rows)
        msg = f"each line begins with a number, which may belong to the name: {shown}"
        raise UncertainNames(f"{msg}; say --class-column 2 or --class-column line")
    return Names([Named(line, cells[0]) for line, cells in lines], "one name a line")


def _are_spaced(rows: Sequence[Row], lines: Sequence[Row]) -> bool:
    """Return whether a space stands between each number and its name: `0: cat`."""
    texts = zip(rows, lines, strict=True)
    return all(line.cells[0][-len(row.cells[1]) - 1].isspace() for row, line in texts)


def _counts(marks: Sequence[str]) -> bool:
    numbers = [int(digits[0]) for mark in marks if (digits := re.search(r"\d+", mark))]
    return numbers in (list(range(len(marks))), list(range(1, len(marks) + 1)))


def _is_number(cell: str) -> bool:
    return bool(_AMOUNT.fullmatch(cell) or _SYNSET.fullmatch(cell))


def _are_numbers(cells: Sequence[str]) -> bool:
    given = [cell for cell in cells if cell]
    return bool(given) and all(map(_is_number, given))


def _has_word(row: Row) -> bool:
    return any(_is_word(_word(cell)) for cell in row.cells)


def _is_word(word: str) -> bool:
    return word in WORDS or word.endswith(_ENDS)


def _word(cell: str) -> str:
    return re.sub(r"[\W_]+", " ", fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cell))).strip()


def _uncertain(rows: Sequence[Row]) -> UncertainNames:
    return UncertainNames(
        f"which column has the names is not certain; the first rows are {delimited.show(rows)}. "
        "Say --class-column with a header, with a number from 1 (no header row), or line (each "
        "line is a name)"
    )
