"""No image goes through a tower twice, whatever it is called and whoever asks."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.features import embedding
from tasks.features.embedding import embed
from tasks.features.towers import tower_of
from tasks.images import pixels
from tasks.pool.shards import files_of, shards
from tasks.refs import EmbeddingsRef, ImagesRef, PeerRef
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.store import read_keys
from tasks.storage.uris import join
from tests.worlds.embedding import Embedding, embed_here
from tests.worlds.images import encoded_image
from tests.worlds.peers import NetworkJobs
from tests.worlds.pools import opened, tree


def put(place: Embedding, seeds: Sequence[int], folder: str = "a") -> Path:
    return tree(place.root, {f"{folder}/{seed:02}.png": encoded_image(seed) for seed in seeds})


def ids_of(images: ImagesRef, features: EmbeddingsRef) -> list[str]:
    """Return the ids of all images that have features, in the order in which they are read."""
    return [
        image for shard in shards(images, features) for image in shard.features()[0].to_pylist()
    ]


def id_of(seed: int) -> str:
    return hashlib.sha256(encoded_image(seed)).hexdigest()


def reasons_of(features: EmbeddingsRef) -> list[str]:
    tables = iter_tables(join(features.run, "quarantine"))
    return [reason for table in tables for reason in table["reason"].to_pylist()]


# --- what changes nothing -------------------------------------------------------------------------


def test_names_places_order_classes_and_labels_cost_no_forward_pass(
    place: Embedding, tmp_path: Path
) -> None:
    put(place, range(20))
    first = place.embed()
    assert (place.count(), first.rows) == (20, 20)
    runtime, labels = RuntimeSpec(workspace=place.workspace), tmp_path / "labels.csv"
    labels.write_text("uri,label\na/00.png,b\n")
    for change in ({"classes": "a,b,new"}, {"labels": str(labels)}, {"labels": "folders"}):
        images, _ = opened(place.root, runtime, **change)
        assert place.embed(images).digest == first.digest
    (place.root / "a" / "03.png").rename(place.root / "a" / "renamed.png")
    put(place, [7], "copies")
    assert place.embed().digest == first.digest
    rows = [encoded_image(seed) for seed in reversed(range(20))]
    pq.write_table(pa.table({"image": rows}), tmp_path / "rows.parquet", row_group_size=3)
    for rows_per_shard in (5, 64):
        images = place.images(tmp_path / "rows.parquet", rows_per_shard=rows_per_shard)
        again = place.embed(images, rows_per_shard=rows_per_shard)
        assert again.digest == first.digest
        assert ids_of(images, again) == sorted(id_of(seed) for seed in range(20))
    assert place.count() == 0


def test_only_new_images_go_through_the_tower(place: Embedding) -> None:
    put(place, range(20))
    first = place.embed()
    assert place.count() == 20
    put(place, range(20, 25), "more")
    second, images = place.embed(), place.images()
    assert place.count() == 5
    assert (second.rows, second.digest != first.digest) == (25, True)
    assert ids_of(images, second) == sorted(id_of(seed) for seed in range(25))
    assert place.embed().resumed
    assert place.count() == 0


def test_an_image_that_went_leaves_the_results_and_not_the_store(place: Embedding) -> None:
    put(place, range(9))
    before = place.embed()
    (place.root / "a" / "04.png").unlink()
    after, images = place.embed(), place.images()
    assert id_of(4) not in ids_of(images, after)
    assert after.rows == 8
    put(place, [4])
    assert place.embed().digest == before.digest
    assert place.count() == 9


def test_a_part_of_the_images_in_another_cut_finds_its_features(place: Embedding) -> None:
    put(place, range(20))
    place.embed()
    put(place, range(5), "few")
    few = place.images(place.root / "few", rows_per_shard=3)
    found = place.embed(few, rows_per_shard=3)
    assert ids_of(few, found) == sorted(id_of(seed) for seed in range(5))
    assert place.count() == 20


# --- failures -------------------------------------------------------------------------------------


def test_a_broken_image_is_not_tried_again(place: Embedding) -> None:
    put(place, range(5))
    broken = encoded_image(77, (64, 64))[:-40]
    tree(place.root, {"broken.png": broken})
    first = place.embed()
    assert (first.rows, first.num_quarantined, reasons_of(first)) == (5, 1, ["truncated"])
    place.decoded.clear()
    put(place, [5])
    tree(place.root, {"elsewhere/broken.png": broken})
    (place.root / "broken.png").unlink()
    second = place.embed()
    assert place.decoded == [id_of(5)]
    assert reasons_of(second) == ["truncated"]
    (table,) = iter_tables(join(second.run, "quarantine"))
    assert table["uri"].to_pylist() == [str(place.root / "elsewhere" / "broken.png")]


def test_an_image_that_cannot_be_read_for_a_minute_is_read_by_the_next_run(
    place: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, range(900, 906))  # whose pixels no other test has left in the cache
    images, read = place.images(), pixels.read_images

    def failing(uris: Sequence[str], **limits: Any) -> Iterator[tuple[int, bytes | OSError]]:
        for index, data in read(uris, **limits):
            yield index, OSError("no route") if uris[index].endswith("902.png") else data

    with monkeypatch.context() as minute:
        minute.setattr(pixels, "read_images", failing)
        first = place.embed(images)
    assert (first.rows, reasons_of(first)) == (5, ["unreadable"])
    place.decoded.clear()
    second = place.embed(images)
    assert place.decoded == [id_of(902)]
    assert (second.rows, reasons_of(second), place.count()) == (6, [], 6)
    assert second.digest != first.digest
    assert place.embed(images).resumed


def test_without_any_usable_image_there_is_a_sentence(place: Embedding) -> None:
    tree(place.root, {"broken.png": encoded_image(77, (64, 64))[:-40]})
    with pytest.raises(InputError, match="None of the 1 images could be decoded"):
        place.embed()


def test_a_run_that_was_killed_goes_on(place: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, range(20))

    def killed(actor: Any, job: Any, items: Iterable[Any], runtime: Any, **named: Any) -> None:
        embed_here(actor, job, list(items)[1:2], runtime)
        raise KeyboardInterrupt

    with monkeypatch.context() as short:
        short.setattr(embedding, "map_parts", killed)
        with pytest.raises(KeyboardInterrupt):
            place.embed()
    assert place.count() == 8
    place.embed()
    assert place.count() == 12


# --- several towers, several runs -----------------------------------------------------------------


def test_two_peers_see_each_image_decoded_once(place: Embedding, network_jobs: Any) -> None:
    jobs: NetworkJobs = network_jobs()
    put(place, range(10))
    place.embed()
    place.decoded.clear()
    place.count()
    peer: PeerRef = jobs.job.start
    other = peer.model_copy(update={"digest": "other"})
    towers = [tower_of(place.backbone, [one]) for one in (peer, other)]
    images = place.images()
    one, two = embed(images, towers, place.spec(), label="Embed with peers")
    assert sorted(place.decoded) == sorted(id_of(seed) for seed in range(10))
    assert place.count() == 2 * 10
    assert one.uri != two.uri
    for a, b in zip(shards(images, one), shards(images, two), strict=True):
        np.testing.assert_array_equal(a.features()[1], b.features()[1])
    plain = shards(images, place.embed())[0].features()[1]
    assert not np.allclose(plain, shards(images, one)[0].features()[1])


def test_two_runs_at_once_leave_features_that_count_once(place: Embedding) -> None:
    put(place, range(30))
    cuts = (5, 7)
    sets = [place.images(rows_per_shard=cut) for cut in cuts]
    with ThreadPoolExecutor(2) as both:
        runs = list(both.map(lambda n: place.embed(sets[n], rows_per_shard=cuts[n]), (0, 1)))
    assert 30 <= place.count() <= 60
    every = sorted(id_of(seed) for seed in range(30))
    for images, run in zip(sets, runs, strict=True):
        assert (run.rows, run.digest) == (30, runs[0].digest)
        assert ids_of(images, run) == every
    # However the race went: a second writer of some rows changes nothing for any reader.
    store = tower_of(place.backbone).features(place.workspace)
    rows = read_keys(pa.array(every[3:9]), files_of(runs[0]), "image_id", ["embedding"])
    store.add(rows)
    again = place.embed(place.images(rows_per_shard=4), rows_per_shard=4)
    assert ids_of(place.images(rows_per_shard=4), again) == every
    assert (again.rows, again.digest) == (30, runs[0].digest)


def test_a_bucket_is_a_workspace_too(place: Embedding) -> None:
    put(place, range(6))
    place.workspace = f"memory://{os.urandom(8).hex()}"
    first = place.embed()
    put(place, [6])
    assert (place.embed().rows, place.count()) == (7, 7)
    assert first.rows == 6
