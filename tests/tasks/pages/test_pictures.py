"""Images as small data URIs."""

import base64
import io
from pathlib import Path

from PIL import Image

from tasks.pages.pictures import placeholder, read_pictures, square, within


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def write_thirds(path: Path) -> str:
    """Write 300 x 100 pixels, white in the middle third and black beside it."""
    image = Image.new("RGB", (300, 100))
    image.paste("white", (100, 0, 200, 100))
    image.save(path)
    return str(path)


def test_a_square_is_cut_from_the_middle(tmp_path: Path) -> None:
    uri = write_thirds(tmp_path / "thirds.png")
    picture = decoded(read_pictures([uri], square(40), max_pixels=10**6)[uri])
    assert picture.size == (40, 40)
    assert picture.convert("L").resize((4, 4)).getextrema()[0] > 230


def test_a_whole_image_fits_within_a_side_and_never_grows(tmp_path: Path) -> None:
    uri = write_thirds(tmp_path / "thirds.png")
    sizes = [
        decoded(read_pictures([uri], within(side), max_pixels=10**6)[uri]).size
        for side in (60, 1000)
    ]
    assert sizes == [(60, 20), (300, 100)]


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    good, bad = write_thirds(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    uris = [good, str(bad), str(tmp_path / "absent.png"), good]
    assert list(read_pictures(uris, square(8), max_pixels=10**6)) == [good]
    assert read_pictures(uris, square(8), max_pixels=100) == {}


def test_the_placeholder_is_a_picture() -> None:
    assert decoded(placeholder()).size == (192, 144)
