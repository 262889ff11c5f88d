"""Make the spoken digits that coft ships: `python -m tests.bench.digit_voices FILE`.

Log-mel features of synthetic voices, by the programs of Debian's packages espeak-ng (1.51) and
flite (2.2). No voice that tests is heard in training. Equal versions write equal bytes.
"""

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from tasks.harmony.digits.log_mel import log_mel
from tasks.harmony.digits.table import CLASSES, as_parquet, table_of
from tests.bench.digit_recordings import samples_of

LANGUAGES = ("en-us", "fr-fr", "es", "it", "ru")
ESPEAK = {  # variants, in each language
    "train": (
        *("m1", "m2", "m3", "m4", "m7", "f1", "f2", "f3", "Alicia", "Andy", "Denis", "Gene"),
        *("Jacky", "klatt2", "linda", "steph"),
    ),
    "test": ("m5", "f4", "Annie", "klatt3"),
}
FLITE = {"train": ("awb", "rms"), "test": ("slt",)}  # statistical voices, of English
STRETCHES = (0.8, 0.9, 1.0, 1.15, 1.3)  # of flite's pace
TIMES = {"train": 2, "test": 1}  # that a voice of espeak-ng says each digit
STEPS = 16  # to the unit, of what is written: a file of half the size

Spoken = tuple[str, str, int, bytes]
"""Split, name, digit and recording of a sample."""


def main() -> None:
    """Write the file."""
    spoken = [*by_espeak(), *by_flite()]
    features = np.stack([log_mel(*samples_of(wav)) for *_, wav in spoken])
    splits, names, digits = zip(*(one[:3] for one in spoken), strict=True)
    table = table_of("sound", names, digits, splits, (features * STEPS).round() / STEPS)
    Path(sys.argv[1]).write_bytes(as_parquet([table]))


def by_espeak() -> Iterator[Spoken]:
    """Yield what each voice of espeak-ng says, at a speed and a pitch by chance."""
    draws = np.random.default_rng(0)
    for split, variants in ESPEAK.items():
        for language, variant, time in product(LANGUAGES, variants, range(TIMES[split])):
            voice = f"{language}+{variant}"
            speed, pitch = str(draws.integers(120, 210)), str(draws.integers(20, 80))
            command = ["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, "--stdout"]
            for digit in range(len(CLASSES)):
                yield split, f"{voice}/{digit}/{time}", digit, output([*command, str(digit)])


def by_flite() -> Iterator[Spoken]:
    """Yield what each voice of flite says, at several paces."""
    for split, voices in FLITE.items():
        for voice, (time, stretch) in product(voices, enumerate(STRETCHES)):
            command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}"]
            for digit in range(len(CLASSES)):
                said = output([*command, "-o", "/dev/stdout", "-t", str(digit)])
                yield split, f"flite+{voice}/{digit}/{time}", digit, said


def output(command: list[str]) -> bytes:
    """Return what a program writes."""
    return subprocess.run(command, check=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
