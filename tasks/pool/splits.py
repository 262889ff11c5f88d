"""First folders that say what their images are for: train, val, valid and test.

What is in a folder for validation or testing is held out: never trained on, and what accuracy is
measured on. Files of Parquet are taken by a folder above them or by the word that their name begins
with (`data/test-00000-of-00001.parquet`); a column `split` in a file decides before that.
"""

import os
import re
from collections import Counter
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.listing import NoImages
from tasks.images.parquet import HELD_OUT, read_schema
from tasks.images.sources import Source
from tasks.pool.names import names_of
from tasks.refs import Split

TRAINING = frozenset(("train", "training"))
_FIRST_FOLDER = r"(?s)^(?P<word>[^/]*)/"
_WORD = re.compile(r"[^\W\d_]+")

Setting = Literal["auto", "yes", "no"]


def find_splits(source: Source, setting: Setting, *, strict: bool = True) -> dict[str, int]:
    """Return how many images each first folder that says its purpose has; none if there are none.

    Args:
        source: The images.
        setting: `auto` takes such folders for splits where one is for training and one is held
            out; `yes` where one is held out; `no` never.
        strict: Refuse folders of which it is not certain.

    Raises:
        NoImages: a folder is called `test` or the like and none is for training, so that the
            images beside it may be for training or not; folders further down say what they are
            for; or there is no such folder with `yes`.
    """
    if setting == "no":
        return {}
    counts = Counter[str]()
    for word, rows in _first_words(source):
        counts[word] += rows
    found = {word: number for word, number in counts.items() if is_split(word)}
    held_out = [word for word in found if split_of(word) == "test"]
    if held_out and (setting == "yes" or len(held_out) < len(found)):
        return found
    if strict and setting == "yes":
        msg = f"--split-folders yes: {source.uri} has no first folder called "
        raise NoImages(f"{msg}{', '.join(sorted(HELD_OUT))}; give --test, or leave it out")
    if strict and held_out and len(counts) > len(found):
        msg = f"{source.uri}: the folder {held_out[0]}/ may be for testing or a class, since no "
        more = "say --split-folders yes (it is held out) or --split-folders no (it is trained on)"
        raise NoImages(f"{msg}folder beside it is called train; {more}")
    if strict and source.kind == "images" and not held_out:
        _check_below(source)
    return {}


def _check_below(source: Source) -> None:
    """Refuse folders for training and others that are held out, below the first ones.

    Raises:
        NoImages: says which.
    """
    folders = pc.unique(pc.replace_substring_regex(names_of(source), r"(?s)/?[^/]*$", ""))
    found = {word: folder for folder in folders.to_pylist() for word in folder.split("/")[1:]}
    words = [word for word in found if is_split(word)]
    if len({split_of(word) for word in words}) > 1:
        few = " and ".join(sorted(f"{found[word]}/" for word in words)[:3])
        msg = f"{source.uri}: {few} may be for training and for testing, but are no first folders"
        more = "give the folder above them as --images, or put them above the classes"
        raise NoImages(f"{msg}; {more}, or say --split-folders no (all are trained on)")


def is_split(word: str) -> bool:
    """Return whether the name of a first folder says what its images are for."""
    return word.casefold() in TRAINING | HELD_OUT


def split_of(word: str) -> Split:
    """Return what images in a first folder are for; in a folder of another name, to learn from."""
    return "test" if word.casefold() in HELD_OUT else "pool"


def first_words(names: pa.ChunkedArray, source: Source) -> Any:
    """Return the first folder of names below the source, or what names of Parquet files say."""
    if source.kind == "images":
        return pc.struct_field(pc.extract_regex(names, _FIRST_FOLDER), "word")
    return pa.array(map(_word_of_table, names.to_pylist()), pa.string())


def _word_of_table(name: str) -> str | None:
    *folders, file = name.split("/")
    match = _WORD.match(file)
    words = [*folders, *([match[0]] if match else [])]
    return next(filter(is_split, words), None)


def below_split(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return names without their first folder where that is a split."""
    words = pc.struct_field(pc.extract_regex(names, _FIRST_FOLDER), "word")
    known = pa.array(sorted(TRAINING | HELD_OUT))
    is_in = pc.is_in(pc.utf8_lower(words), known)
    return pc.if_else(is_in, pc.replace_substring_regex(names, r"(?s)^[^/]*/", ""), names)


def held_out_by_suffix(source: Source) -> Counter[str]:
    """Return how many images are in first folders that are held out, by extension."""
    if source.kind == "tables":
        rows = (rows for word, rows in _first_words(source) if split_of(word) == "test")
        return Counter({".parquet": sum(rows)})
    names = names_of(source)
    words = pc.utf8_lower(first_words(names, source))
    held_out = names.filter(pc.is_in(words, pa.array(sorted(HELD_OUT))))
    return Counter(os.path.splitext(name)[1].lower() for name in held_out.to_pylist())  # noqa: PTH122


def _first_words(source: Source) -> list[tuple[str, int]]:
    """Return first words and numbers of images; Parquet files with a column `split` have none."""
    words = first_words(names_of(source), source)
    if source.kind == "tables":
        pairs = zip(source.tables(), words.to_pylist(), strict=True)
        kept = [word and "split" not in read_schema(uri).names for uri, word in pairs]
        words = pc.if_else(pa.array(list(map(bool, kept))), words, "")
    rows = source.listing.append_column("word", words).group_by("word").aggregate([("rows", "sum")])
    counts = rows["rows_sum"].to_pylist()
    return list(zip(rows["word"].fill_null("").to_pylist(), counts, strict=True))
