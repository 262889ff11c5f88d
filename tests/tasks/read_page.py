"""A page as a browser sees it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "circle", "rect"}


class Page(HTMLParser):
    """Tags in balance, texts, tables as lists of rows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"th", "td"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.stack:
            return
        self.words.append(data)
        if {"th", "td"} & set(self.stack):
            self.tables[-1][-1][-1] += data.strip()

    @property
    def prose(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))  # other spaces are meant

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def photos(self) -> list[dict[str, str]]:
        return [image for image in self.all("img") if image["src"].startswith("data:image/jpeg")]

    def table(self, *header: str) -> list[list[str]]:
        """Return the rows below the first table whose header starts so."""
        fitting = [rows for rows in self.tables if rows and rows[0][: len(header)] == [*header]]
        assert fitting, f"no table with header {header}"
        return fitting[0][1:]
