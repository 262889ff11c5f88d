"""Names of images from other machines and tools are written in one spelling."""

import pytest

from tasks.annotations.paths import bare, normal, stem, stored, uploaded


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./a.jpg", "a.jpg"),
        ("x//y/../a.jpg", "x/a.jpg"),
        ("../../a.jpg", "a.jpg"),
        ("/data/x/a.jpg", "data/x/a.jpg"),
        (r"C:\Photos\my cat\a.JPG", "Photos/my cat/a.JPG"),
        (r"..\x\a.jpg", "x/a.jpg"),
        ("file:///C:/x/a.jpg", "x/a.jpg"),
        ("x/my%20cat%231.jpg", "x/my cat#1.jpg"),
        ("s3://bucket/x/a#1?.jpg", "bucket/x/a#1?.jpg"),
        ("https://host:80/x/a%3F.jpg?sig=1#top", "host:80/x/a?.jpg"),
        ("/data/local-files/?d=photos/x/a%20b.jpg", "photos/x/a b.jpg"),
        ("http://localhost:8080/data/local-files/?d=x/a&b.jpg", "x/a&b.jpg"),
        ("cafe\u0301.jpg", "café.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("t.parquet#7", "t.parquet#7"),
    ],
)
def test_normal(path: str, expected: str) -> None:
    assert normal(path) == expected
    assert normal(normal(path)) == expected


def test_uploads_to_label_studio() -> None:
    assert uploaded("data/upload/12/0a1b2c3d-my_cat_1.jpg") == "my_cat_1.jpg"
    assert uploaded("upload/1/0a1b2c3d-a-b.jpg") == "a-b.jpg"
    assert uploaded("data/upload/12/a.jpg") is None
    assert uploaded("photos/0a1b2c3d-a.jpg") is None
    assert stored("x/my cat (1).jpg") == "my_cat_1.jpg"


def test_names_without_extension() -> None:
    assert bare("x/000bec180eb1") == "000bec180eb1"
    assert bare("x/a.jpg") is None
    assert bare("v1.25") == "v1.25"
    assert stem("x/a.b.jpeg") == "a.b"
