"""Ten digits as images, sounds, pen strokes and words: one Parquet file of features."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from tasks.demo import held_out
from tasks.harmony.digits.letters import mistyped, ngrams
from tasks.harmony.digits.strokes import strokes
from tasks.harmony.digits.table import as_parquet, table_of
from tasks.storage.files import write_changed
from tasks.storage.uris import join

MODALITIES = ("image", "sound", "stroke", "text")  # in the order of the file
SOUNDS = Path(__file__).with_name("sound.parquet")
WORDS = Path(__file__).with_name("words.tsv")
_SIZE = 16  # of an image, in pixels
_BILINEAR = Image.Resampling.BILINEAR
_MIDDLE = 8  # of the levels 0 to 16 of a scan
_SLIPS = 3  # of a word to train on, beside the word
_UNSEEN = 4  # of so many languages one is for testing, in the order of their codes


def write_digits(folder: str) -> str:
    """Write features of ten digits in four modalities, and return the file's URI.

    Equal calls write equal bytes. The modalities come in the order of `MODALITIES`, each in a row
    group of its own and 256 numbers wide; the columns are those of `table_of`. In testing
    are 500 scans, the same as images and as strokes, so that none was trained on in either form;
    voices that training does not have; and languages that training does not have.
    """
    scans = load_digits()
    kinds = [_images(scans), pq.read_table(SOUNDS), _strokes(scans), _words()]
    uri = join(folder, "digits.parquet")
    write_changed(uri, as_parquet(kinds))
    return uri


def _images(scans: Bunch) -> pa.Table:
    size = (_SIZE, _SIZE)
    pixels = [
        np.asarray(Image.fromarray(scan.astype(np.float32)).resize(size, _BILINEAR))
        for scan in scans.images
    ]
    levels = np.stack(pixels).reshape(len(pixels), -1)
    return _of_scans("image", scans.target, levels / _MIDDLE - 1)


def _strokes(scans: Bunch) -> pa.Table:
    return _of_scans("stroke", scans.target, strokes(scans.images))


def _of_scans(modality: str, targets: np.ndarray, features: np.ndarray) -> pa.Table:
    splits = np.where(held_out(targets), "test", "train").tolist()
    names = [f"{row:04}" for row in range(len(targets))]
    return table_of(modality, names, targets.tolist(), splits, features)


def _words() -> pa.Table:
    """Return the words of `WORDS`: those to train on as they are, and mistyped in three ways."""
    draws = np.random.default_rng(0)
    languages = [line.split("\t") for line in WORDS.read_text().splitlines()]
    names, labels, splits, features = list[str](), list[int](), list[str](), list[np.ndarray]()
    for place, (language, *words) in enumerate(languages, start=1):
        unseen = place % _UNSEEN == 0
        for label, word in enumerate(words):
            slips = [] if unseen else [mistyped(word, draws) for _ in range(_SLIPS)]
            names += [f"{language}/{label}/{number}" for number in range(1 + len(slips))]
            features += map(ngrams, [word, *slips])
            labels += [label] * (1 + len(slips))
            splits += ["test" if unseen else "train"] * (1 + len(slips))
    return table_of("text", names, labels, splits, np.stack(features))
