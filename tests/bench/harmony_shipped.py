"""Harmony on the ten digits that coft ships, and on recordings of people where they were fetched.

    python -m tests.bench.harmony_shipped --seeds 2 --methods harmony sequential

The table is that of `harmony_digits`; the data are those of `tasks/harmony/digits`.
"""

import sys
from tempfile import TemporaryDirectory

import torch

from clipcore.backbone import load
from clipcore.harmony.comparison import METHODS
from clipcore.harmony.samples import Samples
from clipcore.zero_shot import class_embeddings
from tasks.harmony.digits.table import CLASSES
from tasks.harmony.digits.write import write_digits
from tasks.harmony.rows import LabelledRows, Part, Rows
from tests.bench.digit_recordings import ABSENT, recordings
from tests.bench.harmony_table import World, options, print_rows

MODALITIES = ("image", "sound", "stroke", "text")


def main() -> None:
    """Print a row of each method."""
    asked = options(__doc__, METHODS)
    with TemporaryDirectory() as folder:
        print_rows(shipped(write_digits(folder)), METHODS, asked)


def shipped(uri: str) -> World:
    """Return the digits of a file, in all modalities."""

    def samples(modality: str, part: Part) -> Samples:
        return LabelledRows(Rows((uri,), modality, part), CLASSES)

    anchors = class_embeddings(load("embedded:glyph"), list(CLASSES), ["digit {}"])
    data = {name: (samples(name, "train"), samples(name, "test")) for name in MODALITIES}
    return World(data, list(CLASSES), anchors, people())


def people() -> dict[str, tuple[str, Samples]]:
    """Return the recordings as a column `human`, or say why there is none."""
    found = recordings()
    if found is None:
        sys.stderr.write(f"No column human: {ABSENT}\n")
        return {}
    features, digits = map(torch.from_numpy, found)
    return {"human": ("sound", [(features, digits)])}


if __name__ == "__main__":
    main()
