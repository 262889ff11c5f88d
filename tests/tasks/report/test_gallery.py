"""Examples of kept and rejected labels."""

import re
from pathlib import Path

from tasks.report.gallery import MAX_THUMBNAILS, choose_classes, per_strip
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import CLASSES, Run, draw_pictures, page_of


def test_thumbnails_are_small_jpegs_of_what_they_are_captioned(usual: Page) -> None:
    assert 0 < len(usual.photos()) <= MAX_THUMBNAILS
    for photo in usual.photos():
        assert len(photo["src"]) < 8000
        assert re.match(r"(Kept|Rejected): labelled \w+ by Peer [12], in truth \w+", photo["alt"])


def test_image_that_is_gone_leaves_a_gap(run: Run, tmp_path: Path) -> None:
    run.pictures = draw_pictures(tmp_path / "gone", len(CLASSES), 3)
    inputs = run.inputs()
    for uri in run.pictures.uris:
        Path(uri).unlink()
    page = page_of(inputs)
    assert page.photos() == []
    assert page.table("Class", "Proposed", "Kept")


def test_shown_classes_reach_from_least_to_most_kept() -> None:
    names = [f"{i:03d}" for i in range(100)]
    chosen = choose_classes(names, {name: int(name) / 100 for name in names})
    assert len(chosen) == len(set(chosen)) == 30
    assert (chosen[0], chosen[-1]) == ("000", "099")


def test_all_strips_together_keep_the_limit() -> None:
    for count in (1, 2, 7, 10, 30):
        assert 2 * count * per_strip(count) <= MAX_THUMBNAILS
