"""What became of the files of a run."""

from tasks.plan.files import count_files
from tasks.plan.make import make_plan
from tests.worlds.embedding import Embedding
from tests.worlds.images import encoded_image
from tests.worlds.pools import tree


def test_every_file_is_counted_once(place: Embedding) -> None:
    good = {f"{number}.png": encoded_image(number) for number in range(3)}
    broken = encoded_image(77, (64, 64))[:-40]  # its header is fine
    others = {"text.png": b"text", "more.jpg": b"text", "broken.png": broken, "a.jxl": b"x"}
    tree(place.root, {**good, **others, "copy.png": good["0.png"]})
    plan = make_plan(place.spec(), "embed")
    images = place.images()
    files = count_files(plan, images, place.embed(images))
    assert files.num_images == 7
    assert files.quarantined == {"not-an-image": 2, "truncated": 1}
    assert files.skipped == {".jxl": 1}


def test_a_run_that_finds_all_of_it_finished_says_the_same(place: Embedding) -> None:
    tree(place.root, {"1.png": encoded_image(1), "text.png": b"text"})
    said = []
    for more in ({}, {"notes.txt": b"x"}):
        tree(place.root, more)
        plan, images = make_plan(place.spec(), "embed"), place.images()
        said.append(count_files(plan, images, place.embed(images)))
    assert said[0].quarantined == said[1].quarantined == {"not-an-image": 1}
    assert [files.skipped for files in said] == [{}, {".txt": 1}], "also of what is new since"
