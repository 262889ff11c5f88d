"""Which column of a file of labels names the image, which the label: by its header, or asked."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tasks.annotations.fields import read_text, read_time
from tasks.annotations.schema import Answer, BadAnswers, Kind
from tasks.annotations.spelling import fold

_IMAGE_WORDS = (
    *("uri", "image", "file name", "filename", "file", "image path", "path", "file path"),
    *("filepath", "image name", "image file", "img", "img path", "url", "image url", "name", "id"),
)
_LABEL_WORDS = (
    *("label", "choice", "class", "class name", "classname", "category", "category name"),
    *("target", "labels"),
)
# Our name of a column, and its names in files, of which the first one that is there counts.
ALIASES = {
    "image_id": ("image id",),
    "uri": _IMAGE_WORDS,
    "label": _LABEL_WORDS,
    "kind": ("kind",),
    "annotator": ("annotator",),
    "answered_at": ("answered at", "updated at"),
}
_OTHER_WORDS = frozenset(
    (
        *_IMAGE_WORDS,
        "image id",
        "annotator",
        "annotation id",
        "created at",
        "updated at",
        "lead time",
    )
)
_KINDS = ("label", "skip", "none")
_IMAGE = re.compile(r"\.(?:jpe?g|jfif|png|gif|bmp|webp|tiff?|p[pgn]m|heic|avif|parquet#\d+)$", re.I)
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d*)?")

Positions = dict[str, int]


def word(header: str) -> str:
    """Return a header in one spelling: `File_Name` and `fileName` are `file name`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", header)
    return re.sub(r"[\W_]+", " ", fold(spaced)).strip()


def find_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], chosen: str | None = None
) -> Positions:
    """Return the position of each column that is used, by our name for it.

    Args:
        header: The headers.
        rows: Some rows below; of several columns that may hold labels numbers are not taken.
        chosen: `IMAGE,LABEL`, headers or numbers from 1, if the person said so.

    Raises:
        BadAnswers: no column names images, none has labels, or two have different ones.
    """
    words = [word(cell) for cell in header]
    positions: Positions = {}
    for name, aliases in ALIASES.items():
        places = [words.index(alias) for alias in aliases if alias in words]
        if places:
            positions[name] = places[0]
    if chosen is not None:
        positions.pop("image_id", None)
        return {**positions, **choose(chosen, header)}
    if "label" in positions:
        labels = [words.index(alias) for alias in ALIASES["label"] if alias in words]
        positions["label"] = _label_column(labels, header, rows)
    has_image = "image_id" in positions or "uri" in positions
    if has_image and "label" not in positions:
        positions.update(only_other(words))
    required = {"image_id (or uri)": has_image, "label": "label" in positions}
    if missing := [name for name, present in required.items() if not present]:
        got = ", ".join(name[:40] for name in header[:8]) or "none"
        msg = f"expected a column {' and a column '.join(missing)}, got {got}; rename or add it"
        raise BadAnswers(msg)
    return positions


def only_other(words: Sequence[str]) -> Positions:
    """Return the label of two columns, or of an export of Label Studio with its own fields."""
    others = [i for i, word in enumerate(words) if word not in _OTHER_WORDS]
    is_certain = len(others) == 1 and (len(words) == 2 or "annotation id" in words)  # noqa: PLR2004
    return {"label": others[0]} if is_certain else {}


def choose(chosen: str, header: Sequence[str]) -> Positions:
    """Return the positions of the two columns that the person named.

    Raises:
        BadAnswers: there are not two, or no such columns.
    """
    parts = [part.strip() for part in chosen.split(",")]
    words = [word(cell) for cell in header]
    places = []
    for part in parts:
        if part.isdecimal():
            places += [int(part) - 1] if 0 < int(part) <= len(header) else []
        elif word(part) in words:
            places.append(words.index(word(part)))
    if len(parts) != 2 or len(places) != 2:  # noqa: PLR2004
        got = ", ".join(cell[:40] for cell in header[:8])
        msg = f"--label-columns {chosen}: expected the columns of images and of labels, by header "
        raise BadAnswers(f"{msg}or by number from 1 (no header row), of {got}")
    return {"uri": places[0], "label": places[1]}


def guess_columns(rows: Sequence[Sequence[str]]) -> Positions | None:
    """Return the columns of rows without a header; None unless only one reading is possible.

    One column has names of image files, and one other column has texts.
    """
    width = len(rows[0])
    columns = [[row[i] for row in rows if i < len(row)] for i in range(width)]
    images = [i for i, cells in enumerate(columns) if all(map(is_image, cells))]
    others = [i for i in range(width) if i not in images and any(columns[i])]
    texts = [i for i in others if not _are_numbers(columns[i])]
    labels = texts if len(others) > 1 else others
    if len(images) == 1 and len(labels) == 1:
        return {"uri": images[0], "label": labels[0]}
    return None


def is_image(cell: str) -> bool:
    """Return whether a text ends like the name of an image file."""
    return bool(_IMAGE.search(cell.strip()))


def make_answer(cells: Mapping[str, Any], row: int) -> Answer:
    """Return the answer in the cells of a row, by our names of the columns.

    Raises:
        BadAnswers: a time or a kind is none.
    """
    image_id, uri = read_text(cells.get("image_id")), read_text(cells.get("uri"))
    return Answer(
        image_id=image_id and image_id.strip(),
        uri=uri,
        kind=_kind(cells.get("kind"), row),
        label=read_text(cells.get("label")),
        annotator=(read_text(cells.get("annotator")) or "").strip(),
        answered_at=read_time(cells.get("answered_at"), f"row {row}, column answered_at"),
        row=row,
    )


def _label_column(
    places: Sequence[int], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> int:
    """Return the column of labels among some: that of texts, if there is another one of numbers."""
    columns = {i: [fold(row[i]) if i < len(row) else "" for row in rows] for i in places}
    texts = [i for i, cells in columns.items() if any(cells) and not _are_numbers(cells)]
    different = [i for i in texts if columns[i] != columns[texts[0]]]
    if different:
        names = f"{header[texts[0]]!r} and {header[different[0]]!r}"
        msg = f"expected one column of labels, got {names} with different ones"
        raise BadAnswers(f"{msg}; say --label-columns IMAGE,LABEL")
    return (texts or places)[0]


def _are_numbers(cells: Sequence[str]) -> bool:
    given = [cell.strip() for cell in cells if cell and cell.strip()]
    return bool(given) and all(map(_NUMBER.fullmatch, given))


def _kind(value: object, row: int) -> Kind | None:
    text = (read_text(value) or "").strip().lower()
    if text in ("", *_KINDS):
        return cast("Kind", text) if text else None
    msg = f"row {row}, column kind: expected {', '.join(_KINDS)} or nothing, got {text[:40]!r}"
    raise BadAnswers(f"{msg}; correct it, or leave the column out")
