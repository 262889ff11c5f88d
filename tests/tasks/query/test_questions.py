"""Views against PyArrow, neighbours against one whole matrix product, and SQL that means harm."""

import json
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.query import neighbours
from tasks.query.output import to_bytes, to_text, write_output
from tasks.query.questions import disagreements, duplicates, outliers, similar
from tasks.query.sandbox import open_workspace, run_sql
from tasks.specs import InputError
from tasks.storage.files import remove
from tasks.storage.manifest import part_name, read_manifest, write_manifest
from tasks.storage.tables import count_rows, write_table
from tasks.storage.uris import join
from tests.worlds import workspace as made
from tests.worlds.workspace import CLASSES, Made, write_workspace


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return write_workspace(str(tmp_path_factory.mktemp("query") / "workspace"))


def value(workspace: str, sql: str, **others: str) -> object:
    return run_sql(workspace, sql, **others).column(0)[0].as_py()


# --- views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "folder"),
    [
        ("images", "pool/pppppppppppppppp/images"),
        ("quarantine", "pool/pppppppppppppppp/quarantine"),
        ("embeddings", "embeddings"),
        ("labels", "labels"),
        ("predictions", "predictions"),
    ],
)
def test_views_have_the_rows_that_pyarrow_reads(filled: Made, view: str, folder: str) -> None:
    names = sorted((Path(filled.uri) / folder).rglob("*.parquet"))
    tables = [pq.read_table(name) for name in names]
    expected = pa.concat_tables(tables, promote_options="permissive")
    found = run_sql(filled.uri, f"from {view}")
    assert found.num_rows == expected.num_rows > 0
    assert found.column_names == [*expected.column_names, "digest"]
    key = "uri" if view in ("images", "quarantine") else "image_id"
    assert sorted(found[key].to_pylist()) == sorted(expected[key].to_pylist())


def test_counts_by_label_equal_those_written(filled: Made) -> None:
    found = run_sql(filled.uri, "select label, count(*) as n from labels group by 1 order by 1")
    assert found.to_pylist() == [{"label": name, "n": 48} for name in sorted(CLASSES)]


def test_embeddings_are_arrays_that_sql_can_compare(filled: Made) -> None:
    assert value(filled.uri, "select distinct typeof(embedding) from embeddings") == "FLOAT[8]"
    sql = "select max(abs(array_inner_product(embedding, embedding) - 1)) < 1e-5 from embeddings"
    assert value(filled.uri, sql) is True


def test_class_report_counts(filled: Made) -> None:
    rows = {row["label"]: row for row in run_sql(filled.uri, "from class_report()").to_pylist()}
    assert rows["cat"]["num_predicted"] == 17  # image 4 too
    assert rows["dog"]["num_predicted"] == 15
    assert rows["cat"]["recall"] == 1
    assert rows["dog"]["recall"] == pytest.approx(15 / 16)
    assert rows["dog"]["num_labeled"] == 16


def test_similar_images_macro_equals_similar(filled: Made) -> None:
    sql = f"from similar_images('{filled.ids[0]}', 5)"
    by_sql = run_sql(filled.uri, sql)
    by_product = similar(filled.uri, filled.ids[0], 5)
    assert by_sql["image_id"].to_pylist() == by_product["image_id"].to_pylist()


def test_a_pool_alone_has_empty_views_of_the_right_columns(tmp_path: Path) -> None:
    made.write_pool(str(tmp_path), "p" * 16, [0, 1, 2])
    for view in ("embeddings", "labels", "predictions"):
        assert run_sql(str(tmp_path), f"from {view}").num_rows == 0
    assert value(str(tmp_path), "select count(*) from class_report()") == 0
    with pytest.raises(InputError, match="no embeddings yet; run `coft embed`"):
        similar(str(tmp_path), "0.png")


# --- which pool, which embeddings -----------------------------------------------------------------


@pytest.fixture
def two_pools(tmp_path: Path) -> str:
    uri = str(tmp_path)
    for digest, first in (("1" * 16, 0), ("2" * 16, 100)):
        ids = made.write_pool(uri, digest, list(range(first, first + 16)))
        made.write_embeddings(uri, f"e{digest}", ids, made.unit_vectors(16, 4 + first // 50))
        made.write_labels(uri, f"a{digest}", "zero-shot", ids, ["cat"] * 16)
    made.age(join(uri, "pool", "1" * 16), 100)
    return uri


def test_the_newest_pool_is_shown_and_another_can_be_named(two_pools: str) -> None:
    count = "select count(*), min(digest), (select count(*) from labels) from images"
    newest = run_sql(two_pools, count).to_pydict()
    assert [column[0] for column in newest.values()] == [17, "2" * 16, 16]
    assert value(two_pools, "select min(digest) from images", pool="1") == "1" * 16
    assert value(two_pools, "select typeof(embedding) from embeddings limit 1") == "FLOAT[6]"
    kind = "select typeof(embedding) from embeddings limit 1"
    assert value(two_pools, kind, pool="1") == "FLOAT[4]"  # never mixed
    with pytest.raises(InputError, match="--pool 9: none begins like this; there are: 2222"):
        run_sql(two_pools, "from images", pool="9")


def test_equal_images_under_other_class_names_are_another_pools_labels(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    made.write_labels(uri, "0" * 16, "zero-shot", ids, ["cat"] * 16)
    made.write_labels(uri, "1" * 16, "zero-shot", ids, ["zebra"] * 16)  # newer
    assert value(uri, "select distinct digest from labels") == "0" * 16


def test_a_stage_that_states_its_pool_is_believed(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    made.write_labels(uri, "0" * 16, "zero-shot", ids, ["cat"] * 16)
    folder = join(uri, "labels", "0" * 16)
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, manifest.model_copy(update={"facts": {"pool": "another"}}))
    assert value(uri, "select count(*) from labels") == 0


def test_embeddings_of_the_backbone_come_before_those_of_its_peers(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    for age, digest, backbone in ((30, "old", "a"), (20, "own", "b"), (10, "peer", "b")):
        made.write_embeddings(uri, digest, ids, made.unit_vectors(16, 4), backbone=backbone)
        made.age(join(uri, "embeddings", digest), age)
    assert value(uri, "select distinct digest from embeddings") == "own"
    other = value(uri, "select distinct digest from embeddings", embeddings="peer")
    assert other == "peer"


def test_vectors_of_two_lengths_in_one_stage_are_named(tmp_path: Path) -> None:
    uri = str(tmp_path)
    write_workspace(uri)
    bad = join(uri, "embeddings", "e" * 16, part_name(1, "e" * 16))
    ids = pq.read_table(bad)["image_id"]
    vectors = made.fixed_size_list(made.unit_vectors(16, 5))
    write_table(bad, pa.table({"image_id": ids, "embedding": vectors}))
    with pytest.raises(InputError, match=r"expected vectors of 8 values .* got 5; delete .* again"):
        similar(uri, made.image_id(0))
    with pytest.raises(InputError, match=r"(?i)size|length|cast"):
        run_sql(uri, "select embedding from embeddings")


# --- SQL that means harm --------------------------------------------------------------------------

HARMFUL = [
    "copy (select 1) to '{out}'",
    "copy (select 1) to '{part}'",
    "explain analyze copy (select 1 as a) to '{part}'",
    "export database '{out}'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_blob('/proc/self/environ')",
    "select * from glob('/etc/*')",
    "select * from read_parquet('{folder}/*.parquet')",
    "select * from read_parquet('{other}')",
    "install httpfs",
    "load httpfs",
    "attach '{out}' as other",
    "select * from read_csv('https://127.0.0.1/x.csv')",
    "set enable_external_access = true",
    "set memory_limit = '1TB'",
    "reset lock_configuration",
    "pragma threads = 4",
    "create table t (a int)",
    "create view images as select 1",
    "drop view images",
    "delete from labels",
    "insert into labels select * from labels",
    "select 1; drop view images",
    "prepare x as select 1",
    "call pragma_version()",
    "select * from query('copy (select 1) to ''{part}''')",
    "select * from secret_of_python",
    "",
    "-- nothing",
    "selec 1",
]


@pytest.mark.parametrize("sql", HARMFUL)
def test_harmful_sql_is_refused_and_changes_nothing(filled: Made, tmp_path: Path, sql: str) -> None:
    secret_of_python = pa.table({"a": [1]})
    folder = Path(filled.uri) / "embeddings" / ("e" * 16)
    part = folder / part_name(0, "e" * 16)
    before, names = part.read_bytes(), sorted(Path(filled.uri).rglob("*"))
    other = tmp_path / "other.parquet"
    pq.write_table(secret_of_python, other)
    out = tmp_path / "out"
    with pytest.raises(InputError):
        run_sql(filled.uri, sql.format(out=out, part=part, folder=folder, other=other))
    assert not out.exists()
    assert part.read_bytes() == before
    assert sorted(Path(filled.uri).rglob("*")) == names


def test_the_locked_connection_itself_refuses(filled: Made, tmp_path: Path) -> None:
    """Without our check of the statement too, for whoever uses the connection directly."""
    with open_workspace(filled.uri) as connection:
        for sql in (
            f"copy (select 1) to '{tmp_path / 'x.csv'}'",
            "select * from read_csv('/etc/passwd')",
            "install httpfs",
            f"attach '{tmp_path / 'x.db'}' as other",
            "set enable_external_access = true",
            "set allowed_paths = ['/etc/passwd']",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
        assert connection.execute("select current_setting('threads')").fetchall()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as a;",
        "-- first\nselect 1 as a -- last",
        "with x as (select 1 as a) from x",
        "values (1)",
        "show tables",
        "describe labels",
        "summarize images",
        "select $$;$$",
    ],
)
def test_every_way_to_read_is_allowed(filled: Made, sql: str) -> None:
    assert run_sql(filled.uri, sql).num_rows >= 1


def test_a_class_name_that_is_sql_is_a_name(filled: Made) -> None:
    sql = "select count(*) from labels where label = 'x''); DROP--' and source = 'peer-1'"
    assert value(filled.uri, sql) == 16
    assert "x'); DROP--" in outliers(filled.uri, 48)["predicted"].to_pylist()
    for name in ("x'); DROP--", "'; select 1 --", "%", "*", "_" * 64):
        with pytest.raises(InputError, match="no image of the pool"):
            similar(filled.uri, name)


@pytest.mark.parametrize(
    "name", ["a'b*", "a?b", "a[b]", "a[b", "k=v", "a;b --", "é\n", "back\\slash"]
)
def test_folder_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    for folder, rows in ((name, 16), ("a'bc", 32), ("axb", 32), ("ab", 32)):
        ids = made.write_pool(str(tmp_path / folder), "p" * 16, list(range(rows)))
        vectors = made.unit_vectors(rows, 4)
        made.write_embeddings(str(tmp_path / folder), "e" * 16, ids, vectors)
    workspace = str(tmp_path / name)
    assert value(workspace, "select count(*) from images") == 17
    assert value(workspace, "select count(*) from embeddings") == 16
    assert similar(workspace, ids[0], 3).num_rows == 3


# --- the named questions --------------------------------------------------------------------------


def cosines(filled: Made) -> np.ndarray:
    return filled.vectors @ filled.vectors.T


@pytest.mark.parametrize("number", [0, 17, 47])
def test_similar_equals_the_whole_product(filled: Made, number: int) -> None:
    found = similar(filled.uri, filled.ids[number], 6)
    row = cosines(filled)[number]
    order = [other for other in np.argsort(-row) if other != number][:6]
    assert found["image_id"].to_pylist() == [filled.ids[other] for other in order]
    assert np.allclose(found["similarity"].to_numpy(), row[order], atol=1e-5)
    assert found["uri"].to_pylist() == [f"photos/{other}.png" for other in order]


def test_an_image_is_found_by_its_names(filled: Made) -> None:
    expected = similar(filled.uri, filled.ids[9]).to_pylist()
    for name in ("photos/9.png", "9.png", filled.ids[9][:12]):
        assert similar(filled.uri, name).to_pylist() == expected
    first = similar(filled.uri, filled.ids[0]).to_pylist()
    assert similar(filled.uri, "copy.png").to_pylist() == first  # equal bytes, one embedding


def test_an_image_without_or_with_too_many_answers(filled: Made, tmp_path: Path) -> None:
    initial = next(c for c in "0123456789abcdef" if sum(i[0] == c for i in filled.ids) > 1)
    with pytest.raises(InputError, match="several images begin or end so"):
        similar(filled.uri, initial)
    for name in ("", "none.png"):
        with pytest.raises(InputError, match="no image of the pool"):
            similar(filled.uri, name)
    with pytest.raises(InputError, match="at least 1, got 0"):
        similar(filled.uri, filled.ids[0], 0)
    ids = made.write_pool(str(tmp_path), "p" * 16, list(range(16)))
    vectors = made.unit_vectors(16, 4)
    made.write_embeddings(str(tmp_path), "e" * 16, ids[:15], vectors[:15])
    with pytest.raises(InputError, match="no embedding"):
        similar(str(tmp_path), ids[15])


@pytest.mark.parametrize("block", [1, 800, 2**26])
def test_duplicates_are_all_pairs_above_the_threshold(
    filled: Made, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block)
    monkeypatch.setattr(neighbours, "TILE_BYTES", block)
    for threshold in (0.99, 0.4):
        found = duplicates(filled.uri, threshold).to_pylist()
        exact = [(row["uri"], row["other_uri"]) for row in found if row["kind"] == "exact"]
        assert exact == [("photos/0.png", "photos/copy.png")]
        near = {(row["image_id"], row["other_image_id"]) for row in found if row["kind"] == "near"}
        one, two = np.nonzero(np.triu(cosines(filled) >= threshold, 1))
        pairs = zip(one.tolist(), two.tolist(), strict=True)
        assert near == {(filled.ids[a], filled.ids[b]) for a, b in pairs}
    assert len(duplicates(filled.uri, 0.99)) == 3


def test_a_limit_keeps_the_most_similar_pairs(
    filled: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 1)
    values = np.sort(cosines(filled)[np.triu_indices(48, 1)])[::-1][:7]
    found = duplicates(filled.uri, 0.01, limit=7)
    near = [row["similarity"] for row in found.to_pylist() if row["kind"] == "near"]
    assert np.allclose(near, values, atol=1e-5)
    with pytest.raises(InputError, match=r"above 0 and at most 1, got 1\.5"):
        duplicates(filled.uri, 1.5)


def test_memory_does_not_grow_with_the_parts(tmp_path: Path) -> None:
    """One part at a time is held: 40 MB of vectors pass through less than half of that."""
    import tracemalloc

    uri, rows, dim = str(tmp_path), 20_480, 512
    ids = made.write_pool(uri, "p" * 16, list(range(rows)), parts_of=1024)
    made.write_embeddings(uri, "e" * 16, ids, made.unit_vectors(rows, dim), parts_of=1024)
    pool = pa.default_memory_pool()
    start = pool.bytes_allocated()
    peak = 0
    tracemalloc.start()
    from tasks.query.contents import choose

    stage = choose(uri).embeddings
    assert stage is not None
    for _, vectors in neighbours.features(stage):
        held = pool.bytes_allocated() - start + tracemalloc.get_traced_memory()[0]
        peak = max(peak, held + vectors.nbytes)
    tracemalloc.stop()
    assert peak < 20 * 2**20
    blocks = [len(block) * dim * 4 for _, _, block in neighbours._blocks(stage)]
    assert max(blocks) <= neighbours.BLOCK_BYTES + 1024 * dim * 4


def test_outliers_are_the_lowest_cosines_with_the_class_centre(filled: Made) -> None:
    predicted = list(filled.labels)
    predicted[4] = "cat"
    centres = {
        name: np.sum(
            [v for v, label in zip(filled.vectors, predicted, strict=True) if label == name], axis=0
        )
        for name in CLASSES
    }
    typical = [
        float(v @ centres[label] / np.linalg.norm(centres[label]))
        for v, label in zip(filled.vectors, predicted, strict=True)
    ]
    order = np.argsort(typical)[:5]
    found = outliers(filled.uri, 5).to_pylist()
    assert [row["image_id"] for row in found] == [filled.ids[number] for number in order]
    assert np.allclose([row["similarity"] for row in found], np.sort(typical)[:5], atol=1e-5)
    of_class = [t for t, label in zip(typical, predicted, strict=True) if label == "cat"]
    means = {
        row["predicted"]: row["class_similarity"] for row in outliers(filled.uri, 48).to_pylist()
    }
    assert means["cat"] == pytest.approx(np.mean(of_class), abs=1e-5)


def test_outliers_without_labels_are_far_from_all(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    vectors = np.ones((16, 4), np.float32)
    vectors[11] = [1, -1, 1, -1]
    made.write_embeddings(uri, "e" * 16, ids, vectors)
    found = outliers(uri, 1).to_pylist()[0]
    assert (found["image_id"], found["predicted"]) == (ids[11], None)


def test_disagreements_of_members_and_of_zero_shot(filled: Made) -> None:
    found = disagreements(filled.uri, 10).to_pylist()
    named = [(row["uri"], row["between"], row["first"], row["second"]) for row in found]
    assert named == [
        ("photos/2.png", "members", CLASSES[2], CLASSES[1]),
        ("photos/4.png", "zero-shot and adapted", "dog", "cat"),
    ]
    assert found[0]["confidence"] == pytest.approx(0.96)
    assert found[1]["confidence"] == pytest.approx(0.5)
    assert disagreements(filled.uri, 1).num_rows == 1


def test_disagreements_of_peers_before_there_are_predictions(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ids = made.write_pool(uri, "p" * 16, list(range(16)))
    with pytest.raises(InputError, match="nothing to compare yet"):
        disagreements(uri)
    one, two = ["cat"] * 16, ["cat"] * 14 + ["dog"] * 2
    sure = [0.6] * 14 + [0.7, 0.9]
    made.write_labels(uri, "1" * 16, "peer-1", ids, one, confidence=sure)
    made.write_labels(uri, "2" * 16, "peer-2", ids, two, confidence=[0.8] * 16)
    found = disagreements(uri).to_pylist()
    assert [row["image_id"] for row in found] == [ids[15], ids[14]]
    assert [row["confidence"] for row in found] == pytest.approx([0.8, 0.7])


# --- a bucket -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "a'b*"])
def test_a_bucket_answers_like_a_folder(filled: Made, name: str) -> None:
    uri = f"memory://query-{time.time_ns()}/{name}"
    write_workspace(uri)
    write_workspace(uri.replace("a'b*", "a'bc") + "-sibling")
    sql = "select source, count(*), min(digest) from labels group by 1 order by 1"
    assert run_sql(uri, sql).equals(run_sql(filled.uri, sql))
    assert similar(uri, "9.png").equals(similar(filled.uri, "9.png"))
    assert duplicates(uri).equals(duplicates(filled.uri))
    assert outliers(uri).equals(outliers(filled.uri))
    assert disagreements(uri).equals(disagreements(filled.uri))
    part = join(uri, "embeddings", "e" * 16, part_name(0, "e" * 16))
    for sql in (f"copy (select 1) to '{uri}/x.csv'", "from read_parquet('memory://*/*.parquet')"):
        with pytest.raises(InputError):
            run_sql(uri, sql.replace("a'b", "a''b"))
    assert count_rows(part) == 16
    remove(uri)


# --- errors for people ----------------------------------------------------------------------------


def test_no_and_empty_workspaces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a workspace, found nothing"):
        run_sql(str(tmp_path / "none"), "select 1")
    with pytest.raises(InputError, match="holds no images yet; run `coft adapt`"):
        run_sql(str(tmp_path), "select 1")
    assert not (tmp_path / "none").exists()


def test_sql_errors_list_the_views(filled: Made) -> None:
    for sql in ("from nowhere", "select nothing from labels", "selec"):
        with pytest.raises(InputError) as raised:
            run_sql(filled.uri, sql)
        lines = str(raised.value).splitlines()
        assert "  labels (image_id, source, label, confidence, gap, kept, reason, digest)" in lines
        assert len(lines) < 15


def test_a_missing_part_is_an_input_error(tmp_path: Path) -> None:
    filled = write_workspace(str(tmp_path))
    name = part_name(2, "e" * 16)
    (tmp_path / "embeddings" / ("e" * 16) / name).unlink()
    with pytest.raises(InputError, match=name):
        run_sql(filled.uri, "select count(embedding) from embeddings")
    with pytest.raises(InputError, match=name):
        similar(filled.uri, filled.ids[0])


# --- output ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd() -> pa.Table:
    return pa.table(
        {
            "image_id": ["f" * 64, None],
            "name": ["[red]x[/red]", "a\x1b[31m\nb"],
            "score": [0.123456, float("nan")],
            "parts": [[0.1, 0.2, 0.3, 0.4], []],
            "n": [1, 2],
        }
    )


def test_text_is_plain_and_cut(odd: pa.Table) -> None:
    text = to_text(odd, width=120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "f" * 12 + " " in text
    assert "0.1235" in text
    assert "[0.1, 0.2, 0.3, ... 4]" in text
    assert text.endswith("2 rows")
    assert to_text(odd, 1, width=120).endswith("1 of 2 rows")
    assert "0 rows" in to_text(odd.slice(0, 0))


def test_files_hold_the_table(odd: pa.Table, tmp_path: Path) -> None:
    write_output(odd, str(tmp_path / "t.parquet"))
    assert pq.read_table(tmp_path / "t.parquet").schema == odd.schema
    write_output(odd, str(tmp_path / "t.json"))
    rows = json.loads((tmp_path / "t.json").read_text())
    assert rows[0]["parts"] == [0.1, 0.2, 0.3, 0.4]
    assert rows[1]["score"] is None
    write_output(odd, str(tmp_path / "any"), "csv")
    names = duckdb.read_csv(str(tmp_path / "any")).project("name, parts").fetchall()
    assert names[0] == ("[red]x[/red]", "[0.1, 0.2, 0.3, 0.4]")
    assert json.loads(to_bytes(odd.slice(0, 0), "json")) == []
    with pytest.raises(InputError, match="ends in one of csv, json, parquet"):
        write_output(odd, str(tmp_path / "any.txt"))
