"""A query as one HTML file: look, choose, save the answers as CSV. No server, no network."""

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.answers.pictures import batches, placeholder, read_pictures
from tasks.storage.files import open_write

_ROOM = Path(__file__).parent
_SIDE = 320  # pixels of the longer side; shown at half of that, so it is sharp on dense screens


def write_contact_sheet(
    uri: str, query: pa.Table, *, classes: Sequence[str], max_pixels: int
) -> None:
    """Write a query (schema `QUERY`) as a page whose saved answers `read_answers` understands.

    Args:
        uri: The HTML file to write.
        query: The images that are asked about.
        classes: All class names, in the order of the choices.
        max_pixels: A larger image is not decoded; a placeholder stands for it.
    """
    script = (_ROOM / "contact_sheet.js").read_text(encoding="utf-8")
    page = _environment().get_template("contact_sheet.html.j2")
    pieces = page.generate(
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
    for rows in batches(query):
        pictures = read_pictures([row["uri"] for row in rows], side=_SIDE, max_pixels=max_pixels)
        for row in rows:
            yield {
                **row,
                "picture": pictures.get(row["uri"]) or placeholder(),
                "readable": row["uri"] in pictures,
                "confidence": _percent(row["confidence"]),
            }


def _percent(value: float | None) -> str:
    return f"{100 * value:.0f}%" if value is not None and math.isfinite(value) else "unknown"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=True,  # class names and file names are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
