"""A query as one HTML file: look, choose, save the answers as CSV. No server, no network."""

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.answers.pictures import rows_with_pictures
from tasks.pages.html import generate
from tasks.pages.pictures import placeholder
from tasks.storage.files import open_write

TEMPLATE = "answers/contact_sheet.html.j2"
SCRIPT = Path(__file__).with_name("contact_sheet.js")
_SIDE = 320  # pixels of the longer side; shown at half of that, so it is sharp on dense screens


def write_contact_sheet(
    uri: str, query: pa.Table, *, classes: Sequence[str], max_pixels: int
) -> None:
    """Write a query as a page whose saved answers `read_answers` understands.

    Args:
        uri: The HTML file to write.
        query: The images that are asked about (schema `QUERY`).
        classes: All class names, in the order of the choices.
        max_pixels: A larger image is not decoded; a placeholder stands for it.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    pieces = generate(
        TEMPLATE,
        cards=_cards(query, max_pixels),
        classes=list(classes),
        number=query["round"][0].as_py() if query.num_rows else 0,
        num_images=query.num_rows,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with open_write(uri) as file:
        for piece in pieces:
            file.write(piece.encode())


def _cards(query: pa.Table, max_pixels: int) -> Iterator[dict[str, Any]]:
    for row, picture in rows_with_pictures(query, side=_SIDE, max_pixels=max_pixels):
        yield {
            **row,
            "picture": picture or placeholder(),
            "readable": picture is not None,
            "confidence": _percent(row["confidence"]),
        }


def _percent(value: float | None) -> str:
    return f"{100 * value:.0f}%" if value is not None and math.isfinite(value) else "unknown"
