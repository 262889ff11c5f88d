"""The page about a night as one HTML file: its words, and small pictures of new images."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from markdown_it import MarkdownIt

from tasks.nightly.change import Change, NewImage
from tasks.pages.html import render
from tasks.pages.pictures import read_pictures, within
from tasks.pool.readers import uris_of
from tasks.refs import ImagesRef

_SIDE = 96  # pixels: 28 pictures of noise stay under 300 KB


@dataclass(frozen=True)
class Picture:
    """An image beside what is known of it."""

    image: str
    name: str
    label: str
    cosine: float


def with_pictures(
    text: str, title: str, change: Change, images: ImagesRef, *, max_pixels: int
) -> str:
    """Return the page.

    Args:
        text: Its words, in Markdown in which what others wrote is escaped.
        title: Of the page.
        change: With the images that are shown.
        images: Where these are found.
        max_pixels: A larger image is not decoded.
    """
    shown = (*change.foreign, *change.drawn)
    uris = dict(
        zip(shown, uris_of(images, [one.image_id for one in shown]), strict=True) if shown else ()
    )
    pictures = read_pictures(list(uris.values()), within(_SIDE), max_pixels=max_pixels)

    def strip(chosen: tuple[NewImage, ...]) -> list[Picture]:
        return [
            Picture(picture, PurePosixPath(one.uri).name, one.label, one.cosine)
            for one in chosen
            if (picture := pictures.get(uris[one]))
        ]

    return render(
        "nightly/digest.html.j2",
        title=title,
        words=MarkdownIt("commonmark").enable("table").render(text),
        strips={
            "Foreign to all classes": strip(change.foreign),
            "Some of the new images": strip(change.drawn),
        },
    )
