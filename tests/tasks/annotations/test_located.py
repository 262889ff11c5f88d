"""The one rule by which a path means an image."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.annotations.located import Located

ROOT = "/data/photos"


def find(images: Sequence[str], *paths: str) -> dict[str, str | None]:
    """Return the name of the image that each path means, "" for several, None for none."""
    with duckdb.connect() as database:
        located = Located(database)
        uris = pa.array([f"{ROOT}/{name}" for name in images], pa.string())
        located.add_images(uris, uris, pa.array(images, pa.string()))
        located.add_paths(pa.array(paths, pa.string()))
        located.match()
        found, several = located.found(), located.ambiguous()
    names = {path: uri.removeprefix(f"{ROOT}/") for path, uri in found.items()}
    assert not found.keys() & several
    return {path: "" if path in several else names.get(path) for path in paths}


NESTED = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/my dog.jpg", "é.jpg", "50%25.jpg")


@pytest.mark.parametrize(
    "prefix",
    ["", "./", "photos/", "/old/disk/", "C:\\Users\\Me\\", "s3://bucket/x/", "file:///data/photos/",
     "http://host/", "/data/local-files/?d=photos/"],
)  # fmt: skip
def test_the_same_images_elsewhere(prefix: str) -> None:
    paths = {f"{prefix}{name}": name for name in NESTED}
    if "\\" in prefix:
        paths = {path.replace("/", "\\"): name for path, name in paths.items()}
    assert find(NESTED, *paths) == paths


def test_other_spellings() -> None:
    paths = {
        "dog/my%20dog.jpg": "dog/my dog.jpg",
        "e\u0301.jpg": "é.jpg",
        "CAT\\1.JPG": "cat/1.jpg",
    }
    assert find(NESTED, *paths) == paths


def test_exact_names_come_first() -> None:
    images = ("a.jpg", "A.jpg", "x/a.jpg", "b%20c.jpg", "b c.jpg")
    paths = {
        "a.jpg": "a.jpg",
        "A.jpg": "A.jpg",
        "b%20c.jpg": "b%20c.jpg",
        "b c.jpg": "b c.jpg",
        f"{ROOT}/x/a.jpg": "x/a.jpg",
    }
    assert find(images, *paths) == paths
    assert find(images, "./A.jpg") == {"./A.jpg": "A.jpg"}


def test_what_may_mean_several_means_none() -> None:
    assert find(NESTED, "1.jpg", "old/2.jpg") == {"1.jpg": "", "old/2.jpg": "cat/2.jpg"}
    assert find(("train/cat/1.jpg", "val/cat/1.jpg"), "cat/1.jpg") == {"cat/1.jpg": ""}


def test_a_path_takes_no_image_of_another_path() -> None:
    """`cat/1.jpg` is about an image that is not there, and `dog/1.jpg` is."""
    assert find(("dog/1.jpg",), "cat/1.jpg", "dog/1.jpg") == {
        "cat/1.jpg": None,
        "dog/1.jpg": "dog/1.jpg",
    }
    assert find(("1.jpg",), "cat/1.jpg", "dog/1.jpg") == {"cat/1.jpg": None, "dog/1.jpg": None}


def test_uploads_and_names_without_extension() -> None:
    images = ("x/my cat (1).jpg", "y/b.png", "z/b.png", "000bec.jpg")
    uploads = "/data/upload/3/0a1b2c3d-"
    assert find(images, f"{uploads}my_cat_1.jpg", f"{uploads}b.png", "000bec", "none") == {
        f"{uploads}my_cat_1.jpg": "x/my cat (1).jpg",
        f"{uploads}b.png": "",
        "000bec": "000bec.jpg",
        "none": None,
    }


NAMES = st.lists(st.sampled_from([*"abA é", "%41", "a b"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=12)
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.lists(NAMES, max_size=6))
def test_its_own_name_means_an_image_whatever_others_are_called(
    images: list[str], others: list[str]
) -> None:
    found = find(images, *images, *others)
    assert all(found[name] == name for name in images)
