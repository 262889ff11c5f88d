"""Packing: lines of WordNet's own files and what becomes of them."""

import lzma
import subprocess
import sys
from pathlib import Path

from tasks.sentences.wordnet.pack import pack

DATA = """  1 This software and database is being provided to you, the LICENSEE
00000100 03 n 01 thing 0 002 ~ 00000200 n 0000 ~ 00000300 n 0000 | not a | gloss
00000200 05 n 02 Sea_lion 0 seal 1 003 @ 00000100 n 0000 + 00000400 v 0101 #m 00000300 n 0000 | x
00000300 06 n 01 seal 0 001 @i 00000100 n 0000 | y
"""
INDEX = """  1 This software and database is being provided to you, the LICENSEE
sea_lion n 1 2 @ #m 1 0 00000200
seal n 2 1 @ 2 1 00000300 00000200
thing n 1 1 ~ 1 0 00000100
"""
PACKED = " thing\n-1 Sea_lion seal#2\n-2 seal\n"


def dictionary(folder: Path) -> Path:
    (folder / "data.noun").write_text(DATA)
    (folder / "index.noun").write_text(INDEX)
    return folder


def test_senses_keep_words_ranks_and_hypernyms(tmp_path: Path) -> None:
    assert lzma.decompress(pack(dictionary(tmp_path))).decode() == PACKED


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    words = ["-m", "tasks.sentences.wordnet.pack", dictionary(tmp_path), "--output"]
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, *words, tmp_path / "nouns.xz"], cwd=root, check=True)
    assert lzma.decompress((tmp_path / "nouns.xz").read_bytes()).decode() == PACKED
