"""What a spoken word sounds like, in 256 numbers: 16 stretches of time with 16 bands each."""

import numpy as np

STRETCHES, BANDS = 16, 16
_LOWEST, _HIGHEST = 100, 3_800  # Hz: what a telephone lets through
_WINDOW, _HOP = 0.025, 0.010  # seconds
_SILENCE = 2.5e-3  # of the power of the loudest moment: less, before or after a word, is no word
_FLOOR = 1e-4  # of the mean power


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return a word's log-mel spectrogram, of one length however long the word is.

    Silence before and after is left out, and so are level and contrast: mean 0, deviation 1.

    Args:
        samples: Of one channel.
        rate: Samples a second.

    Returns:
        Of shape (STRETCHES * BANDS), float32.

    Raises:
        ValueError: there is no sound.
    """
    power = _spectrogram(samples.astype(np.float64), rate) @ _filters(rate)
    if not power.any():
        raise ValueError("expected a sound, got silence")
    bands = np.log(power + _FLOOR * power.mean())
    loudness = power.mean(axis=1)
    (heard,) = np.nonzero(loudness > _SILENCE * loudness.max())
    pooled = _pooled(bands[heard[0] : heard[-1] + 1])
    standard: np.ndarray = (pooled - pooled.mean()) / pooled.std()
    return standard.astype(np.float32).ravel()


def _spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the power of each frequency in windows of 25 ms, each 10 ms after the one before."""
    window, hop = round(_WINDOW * rate), round(_HOP * rate)
    padded = np.pad(samples, (0, max(window - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2


def _filters(rate: int) -> np.ndarray:
    """Return overlapping triangles at equal distances on the mel scale, (frequencies, bands)."""
    frequencies = np.fft.rfftfreq(round(_WINDOW * rate), 1 / rate)
    edges = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), BANDS + 2)
    places = _mel(frequencies)[:, None]
    rising, falling = places - edges[:-2], edges[2:] - places
    triangles: np.ndarray = np.minimum(rising, falling).clip(min=0) / (edges[1] - edges[0])
    return triangles


def _mel(frequency: np.ndarray | float) -> np.ndarray:
    return np.asarray(2595 * np.log10(1 + np.asarray(frequency) / 700))


def _pooled(frames: np.ndarray) -> np.ndarray:
    """Return the means of equal stretches, whose ends may lie within a frame."""
    ends = np.linspace(0, len(frames), STRETCHES + 1)
    total = np.concatenate([np.zeros((1, BANDS)), frames.cumsum(axis=0)])
    until = np.stack([np.interp(ends, np.arange(len(total)), band) for band in total.T], axis=1)
    return np.diff(until, axis=0) * STRETCHES / len(frames)
