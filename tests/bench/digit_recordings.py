"""Digits spoken by people, to measure on: `make digit-recordings` fetches them.

Five sets of ten by four people in English, Spanish, French, Italian and Russian, of Debian's
packages asterisk-core-sounds-*-wav (CC BY-SA 3.0; Italian and Russian CC BY 3.0). Nothing learns
from them, and they are not shipped.
"""

import io
import wave
from pathlib import Path

import numpy as np

from tasks.harmony.digits.log_mel import log_mel

FOLDER = Path(__file__).parents[2] / ".digit-recordings"
ABSENT = "no recordings of people; `make digit-recordings` fetches them"


def recordings() -> tuple[np.ndarray, np.ndarray] | None:
    """Return features and the digit of each recording, or None where they are not."""
    files = sorted(FOLDER.glob("usr/share/asterisk/sounds/*/digits/[0-9].wav"))
    if not files:
        return None
    features = np.stack([log_mel(*samples_of(file.read_bytes())) for file in files])
    return features, np.array([int(file.stem) for file in files])


def samples_of(wav: bytes) -> tuple[np.ndarray, int]:
    """Return the samples of a WAV file of one channel with 16 bits, and their rate."""
    with wave.open(io.BytesIO(wav)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()
