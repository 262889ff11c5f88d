"""Log-mel features of tones, whose frequency and length are known."""

import numpy as np
import pytest

from tasks.harmony.digits.log_mel import BANDS, STRETCHES, log_mel
from tasks.harmony.digits.table import CLASSES
from tasks.harmony.digits.write import SOUNDS
from tasks.harmony.rows import LabelledRows, Rows
from tests.bench.digit_recordings import ABSENT, recordings


def tone(frequency: float, seconds: float, rate: int = 8_000) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def band_of(frequency: float) -> int:
    """The band whose middle is nearest: 16 middles at equal distances in mel, 100 to 3,800 Hz."""
    mels = [2595 * np.log10(1 + one / 700) for one in (100, frequency, 3_800)]
    return round((mels[1] - mels[0]) / (mels[2] - mels[0]) * (BANDS + 1)) - 1


@pytest.mark.parametrize("frequency", [300.0, 1_000.0, 3_000.0])
def test_a_tone_is_loudest_in_its_band_all_the_time(frequency: float) -> None:
    table = log_mel(tone(frequency, 0.5), 8_000).reshape(STRETCHES, BANDS)
    assert set(table.argmax(axis=1).tolist()) == {band_of(frequency)}


def test_a_tone_after_another_is_in_the_second_half() -> None:
    both = np.concatenate([tone(300, 0.4), tone(3_000, 0.4)])
    loudest = log_mel(both, 8_000).reshape(STRETCHES, BANDS).argmax(axis=1)
    assert set(loudest[:7].tolist()) == {band_of(300)}
    assert set(loudest[9:].tolist()) == {band_of(3_000)}


def test_mean_is_zero_and_deviation_one() -> None:
    found = log_mel(tone(500, 0.3), 8_000)
    assert found.dtype == np.float32
    assert (found.mean(), found.std()) == pytest.approx((0, 1), abs=1e-5)


def test_level_silence_around_and_rate_change_little() -> None:
    word = np.concatenate([tone(300, 0.3), tone(1_500, 0.2)])
    quiet = np.concatenate([np.zeros(4_000), word / 50, np.zeros(2_000)])
    fast = np.concatenate([tone(300, 0.3, 22_050), tone(1_500, 0.2, 22_050)])
    wanted = log_mel(word, 8_000)
    for samples, rate in [(quiet, 8_000), (fast, 22_050), (word * 32_000, 8_000)]:
        found = log_mel(samples, rate)
        assert np.corrcoef(found, wanted)[0, 1] > 0.95


def test_a_sound_shorter_than_a_window_has_features() -> None:
    assert np.isfinite(log_mel(tone(1_000, 0.01), 8_000)).all()


@pytest.mark.parametrize("samples", [np.zeros(8_000), np.zeros(0)])
def test_silence_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a sound, got silence"):
        log_mel(samples, 8_000)


def test_synthetic_voices_say_something_of_recordings_of_people() -> None:
    people = recordings()
    if people is None:
        pytest.skip(ABSENT)
    features, digits = people
    assert len(digits) == 50
    ((spoken, labels),) = LabelledRows(Rows((str(SOUNDS),), "sound", "train"), CLASSES)
    means = np.stack([spoken[labels == digit].mean(dim=0).numpy() for digit in range(10)])
    apart = ((features[:, None] - means) ** 2).sum(axis=2)
    assert (apart.argmin(axis=1) == digits).mean() > 0.4  # by chance 0.1
