"""SQL that means harm is refused, and every way to read is allowed."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.query.questions import outliers, similar
from tasks.query.sandbox import open_workspace, run_sql
from tasks.specs import InputError
from tests.worlds.workspace import Made, part_of, value

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
    part = Path(part_of(filled.uri, filled.ids[:16]))
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


def test_sql_errors_list_the_views(filled: Made) -> None:
    for sql in ("from nowhere", "select nothing from labels", "selec"):
        with pytest.raises(InputError) as raised:
            run_sql(filled.uri, sql)
        lines = str(raised.value).splitlines()
        assert "  labels (image_id, source, label, confidence, gap, kept, reason, digest)" in lines
        assert len(lines) < 15
