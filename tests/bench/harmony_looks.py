"""Harmony on 25 classes: photos, edge sketches, pictures as of heat, and spoken names, in turn.

    python -m tests.bench.harmony_looks --cache FOLDER --methods harmony sequential --seeds 3

Photos of `../shared/bench/tiny25.parquet`; 60 of each class for each look, no photo in two of them,
and all photos of the test split. All looks go through the image tower of `embedded`; the names are
spoken by espeak-ng and flite, of whose voices those of the test are not heard in training. Stems
are those of `coft harmony learn`: one for all looks, components for speech. Rows as in
`harmony_digits`.
"""

import io
import json
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from clipcore.backbone import Backbone, load
from clipcore.harmony import samples
from clipcore.harmony.comparison import METHODS
from clipcore.harmony.stem import Stem, fit_stem, shared_stem
from clipcore.images import resize_and_crop
from clipcore.seeding import derive_seed, generator
from clipcore.zero_shot import class_embeddings
from tasks.harmony.digits.log_mel import log_mel
from tasks.harmony.learn import DIM_OF_LOOKS
from tests.bench.digit_recordings import samples_of
from tests.bench.digit_voices import ESPEAK, output
from tests.bench.harmony_table import World, options, print_rows

PHOTOS = Path(__file__).parents[3] / "shared" / "bench" / "tiny25.parquet"
PER_CLASS = 60  # photos of a look to learn from
HEAT_PIXELS, HEAT_NOISE = 24, 12.0
ACCENTS = ("en-us", "en-gb", "en-gb-scotland")
BATCH = 64
Split = tuple[Tensor, Tensor]
Render = Callable[[Image.Image, int], Image.Image]


def main() -> None:
    """Print a row of each method."""
    asked = options(__doc__, METHODS, cached=True)
    asked.cache.mkdir(parents=True, exist_ok=True)
    world = looks(asked.cache)

    def of_looks(inputs: Iterable[Tensor], *, dim: int) -> Stem:
        """Return the stem that all looks share, which are as wide as the class names."""
        pieces = list(inputs)
        width = pieces[0].shape[1]
        is_look = width == world.anchors.shape[1]
        return shared_stem(width, dim=dim) if is_look else fit_stem(pieces, dim=dim)

    with mock.patch.object(samples, "fit_stem", of_looks):
        print_rows(world, METHODS, asked, dim=DIM_OF_LOOKS)


def looks(cache: Path) -> World:
    """Return the four modalities; what takes long is made once."""
    backbone, table = load("embedded"), pq.read_table(PHOTOS)
    classes: list[str] = json.loads(table.schema.metadata[b"classes"])
    data = {}
    for number, name in enumerate((*RENDERED, "speech")):
        file = cache / f"{name}.pt"
        if not file.exists():
            made = speech(classes) if name == "speech" else look(name, number, backbone, table)
            torch.save(made, file)
        splits: dict[str, Split] = torch.load(file)
        data[name] = ([splits["train"]], [splits["test"]])
    return World(data, classes, class_embeddings(backbone, classes, ["a photo of a {}."]))


def look(name: str, number: int, backbone: Backbone, table: pa.Table) -> dict[str, Split]:
    """Return the features of a look: of its own photos of the pool, and of all for the test."""
    classes = json.loads(table.schema.metadata[b"classes"])
    labels = torch.tensor([classes.index(one) for one in table["label"].to_pylist()])
    is_test = torch.from_numpy(np.array(table["split"].to_pylist()) == "test")
    mixed = torch.randperm(len(labels), generator=generator(0, "looks"))
    pool = mixed[~is_test[mixed]]
    own = slice(PER_CLASS * number, PER_CLASS * (number + 1))
    train = torch.cat([pool[labels[pool] == k][own] for k in range(len(classes))])
    return {
        split: (features(rows, RENDERED[name], backbone, table), labels[rows])
        for split, rows in (("train", train), ("test", is_test.nonzero()[:, 0]))
    }


@torch.inference_mode()
def features(rows: Tensor, render: Render, backbone: Backbone, table: pa.Table) -> Tensor:
    """Return the image tower's features of photos that were rendered."""
    made = []
    for batch in rows.split(BATCH):
        images = [
            render(Image.open(io.BytesIO(table["image"][row].as_py())).convert("RGB"), row)
            for row in batch.tolist()
        ]
        pixels = [resize_and_crop(image, backbone.visual.preprocess) for image in images]
        made.append(backbone.visual(torch.from_numpy(np.stack(pixels))))
    return torch.cat(made).clone()


def photo(image: Image.Image, _: int) -> Image.Image:
    """Return it as it is."""
    return image


def sketch(image: Image.Image, _: int) -> Image.Image:
    """Return its edges, dark on white."""
    smooth = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(0.8))
    grown, shrunk = smooth.filter(ImageFilter.MaxFilter(3)), smooth.filter(ImageFilter.MinFilter(3))
    return ImageOps.invert(ImageOps.autocontrast(ImageChops.subtract(grown, shrunk))).convert("RGB")


def heat(image: Image.Image, number: int) -> Image.Image:
    """Return few pixels of grey, inverted, of equal shares, with noise that is each photo's own."""
    small = ImageOps.grayscale(image).resize((HEAT_PIXELS, HEAT_PIXELS))
    grey = np.asarray(ImageOps.equalize(ImageOps.invert(small)), dtype=np.float64)
    noise = np.random.default_rng(derive_seed(0, "heat", number)).normal(0, HEAT_NOISE, grey.shape)
    noisy = Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8))
    return noisy.resize(image.size, Image.Resampling.BILINEAR).convert("RGB")


RENDERED: dict[str, Render] = {"photo": photo, "sketch": sketch, "thermal": heat}


def speech(classes: list[str]) -> dict[str, Split]:
    """Return what the names sound like."""
    return {split: spoken(classes, split) for split in ("train", "test")}


def spoken(classes: list[str], split: str) -> Split:
    """Return the names in the voices of a split, each at a speed and a pitch by chance."""
    draws = np.random.default_rng(derive_seed(0, "spoken", split))
    commands = []
    for accent, variant in product(ACCENTS, ESPEAK[split]):
        speed, pitch = str(draws.integers(120, 210)), str(draws.integers(20, 80))
        commands.append(
            ["espeak-ng", "-v", f"{accent}+{variant}", "-s", speed, "-p", pitch, "--stdout"]
        )
    if split == "test":
        commands += [["flite", "-voice", one, "-o", "/dev/stdout", "-t"] for one in ("slt", "rms")]
    said = [(command, label) for command in commands for label in range(len(classes))]
    sounds = [log_mel(*samples_of(output([*command, classes[k]]))) for command, k in said]
    return torch.from_numpy(np.stack(sounds)), torch.tensor([k for _, k in said])


if __name__ == "__main__":
    main()
