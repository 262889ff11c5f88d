"""Pictures to measure with: made from their number alone, or real ones that lie beside."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

BESIDE = Path(__file__).parents[3] / "shared" / "bench"
REAL = BESIDE / "tiny25.parquet"
REAL_LABELLED = BESIDE / "cifar10.parquet"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_photos(folder: Path, count: int) -> str:
    """Write `count` JPEG files, real ones where there are any, and say which they are."""
    if REAL.exists():
        data = pq.read_table(REAL, columns=["image"])["image"].to_pylist()
        distinct = list(dict.fromkeys(data))[:count]
        if len(distinct) == count:
            _write(folder, distinct)
            return "real photos, 64 x 64"
    write_generated(folder, count, side=256)
    return "generated pictures, 256 x 256"


def labelled(target: Path, *, quick: bool) -> tuple[Path, str]:
    """Return a Parquet file of pictures of ten classes, real ones where there are any.

    Generated ones go into `target`; what they show has nothing to do with their labels.
    """
    if REAL_LABELLED.exists() and not quick:
        return REAL_LABELLED, "CIFAR-10"
    pool, test = (160, 40) if quick else (10_000, 3_000)
    names = [CLASSES[number % len(CLASSES)] for number in range(pool + test)]
    table = pa.table(
        {
            "image": [jpeg(number, side=32) for number in range(pool + test)],
            "label": names,
            "split": ["pool"] * pool + ["test"] * test,
        }
    )
    pq.write_table(table, target)
    return target, "generated pictures, 32 x 32"


def write_generated(folder: Path, count: int, *, side: int) -> None:
    """Write `count` JPEG files of `side` x `side` that cost as much to decode as photos do."""
    _write(folder, [jpeg(number, side=side) for number in range(count)])


def jpeg(number: int, *, side: int) -> bytes:
    """Return a picture of soft shapes, a few edges and grain."""
    draws = np.random.default_rng([side, number])
    coarse = draws.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(soft).astype(np.int16)
    for _ in range(6):
        left, top = draws.integers(0, side, 2)
        width, height = draws.integers(side // 16 + 1, side // 2, 2)
        pixels[top : top + height, left : left + width] += draws.integers(-60, 60, 3, np.int16)
    pixels += draws.integers(-9, 10, (side, side, 1), np.int16)
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
    return data.getvalue()


def _write(folder: Path, images: list[bytes]) -> None:
    folder.mkdir(parents=True)
    for number, data in enumerate(images):
        (folder / f"{number:06}.jpg").write_bytes(data)
