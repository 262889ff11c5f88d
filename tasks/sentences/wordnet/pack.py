"""Pack the nouns of WordNet: `python -m tasks.sentences.wordnet.pack DICT --output FILE`.

DICT is the folder of WordNet 3.0's own files (on Debian of the package `wordnet-base`), of which
`data.noun` and `index.noun` are read. Of each sense its words and its hypernym are kept, and to
which of a word's senses it belongs; glosses and all other relations are left out.
"""

import argparse
import lzma
from collections.abc import Iterator
from pathlib import Path

HYPERNYMS = ("@", "@i")  # of a kind, of a single thing
_ENCODING = "latin-1"  # of the files


def pack(folder: Path) -> bytes:
    """Return the packed nouns of a folder of WordNet's files.

    A line is a sense, in the order of the files: how many lines above or below its hypernym is
    (nothing without one), then its words. `#2` behind a word says that this is its second sense.
    """
    ranks = _ranks((folder / "index.noun").read_text(_ENCODING))
    senses = list(_senses((folder / "data.noun").read_text(_ENCODING)))
    places = {offset: place for place, (offset, _, _) in enumerate(senses)}
    lines = []
    for place, (offset, hypernym, words) in enumerate(senses):
        distance = f"{places[hypernym] - place}" if hypernym else ""
        numbered = [_numbered(word, ranks[word.lower(), offset]) for word in words]
        lines.append(" ".join([distance, *numbered]))
    text = "\n".join(lines) + "\n"
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def _ranks(text: str) -> dict[tuple[str, str], int]:
    """Return of which rank, counted from 1, each sense of a word is."""
    ranks = {}
    for line in text.splitlines():
        if not line.startswith(" "):  # as the licence does
            word, _, count, *rest = line.split()
            for rank, offset in enumerate(rest[-int(count) :], 1):
                ranks[word, offset] = rank
    return ranks


def _senses(text: str) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield the offset of each sense, that of its first hypernym, and its words."""
    for line in text.splitlines():
        if line.startswith(" "):
            continue
        cells = line.partition(" | ")[0].split()
        end = 4 + 2 * int(cells[3], 16)
        pointers = cells[end + 1 :]
        marks = zip(pointers[::4], pointers[1::4], strict=False)
        hypernym = next((offset for mark, offset in marks if mark in HYPERNYMS), None)
        yield cells[0], hypernym, cells[4:end:2]


def _numbered(word: str, rank: int) -> str:
    return word if rank == 1 else f"{word}#{rank}"


def main() -> None:
    """Pack the files that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tasks.sentences.wordnet.pack")
    parser.add_argument("dictionary", type=Path, help="folder with data.noun and index.noun")
    parser.add_argument("--output", type=Path, required=True, help="the file of packed nouns")
    options = parser.parse_args()
    options.output.write_bytes(pack(options.dictionary))


if __name__ == "__main__":
    main()
