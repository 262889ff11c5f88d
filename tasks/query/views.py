"""The views of a workspace as SQL over explicit files; `literal` quotes every name."""

import re
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tasks.images import quarantine
from tasks.pool.catalog import IMAGES
from tasks.query.contents import Chosen, Stage
from tasks.storage.schemas import LABELS, PREDICTIONS
from tasks.storage.uris import is_local, open_filesystem

VIEWS: dict[str, pa.Schema] = {
    "images": IMAGES,
    "quarantine": quarantine.SCHEMA,
    "embeddings": pa.schema([("image_id", pa.string()), ("embedding", pa.list_(pa.float32(), 1))]),
    "labels": LABELS,
    "predictions": PREDICTIONS,
}
"""The columns of each view; every view also has `digest`, that of the stage."""

_GLOB = re.compile(r"[*?\[]")

_MACROS = """
CREATE MACRO similar_images(id, k) AS TABLE
    SELECT e.image_id, i.uri, array_cosine_similarity(e.embedding, q.embedding) AS similarity
    FROM embeddings e
    JOIN (SELECT embedding FROM embeddings WHERE image_id = id) q ON e.image_id <> id
    LEFT JOIN images i ON i.image_id = e.image_id AND i.duplicate_of IS NULL
    ORDER BY similarity DESC LIMIT k;
CREATE MACRO class_report() AS TABLE
    WITH predicted AS (
        SELECT label, count(*) AS num_predicted, avg(score) AS mean_score
        FROM predictions GROUP BY 1
    ), kept AS (
        SELECT label, count(DISTINCT image_id) AS num_kept
        FROM labels WHERE kept AND starts_with(source, 'peer-') GROUP BY 1
    ), labeled AS (
        SELECT i.label, count(*) AS num_labeled, avg((p.label = i.label)::INT) AS recall
        FROM images i JOIN predictions p USING (image_id)
        WHERE i.duplicate_of IS NULL AND i.label IS NOT NULL GROUP BY 1
    )
    SELECT label, coalesce(num_predicted, 0) AS num_predicted, mean_score,
        coalesce(num_kept, 0) AS num_kept, coalesce(num_labeled, 0) AS num_labeled, recall
    FROM predicted FULL JOIN kept USING (label) FULL JOIN labeled USING (label)
    ORDER BY label;
"""


def literal(text: str) -> str:
    """Return a text as an SQL literal; names enter statements in no other way."""
    return "'" + text.replace("'", "''") + "'"


def escape(uri: str) -> str:
    """Return the pattern that matches one file, also if its name has characters of a pattern."""
    return _GLOB.sub(lambda match: f"[{match[0]}]", uri)


def create_views(connection: duckdb.DuckDBPyConnection, chosen: Chosen) -> list[str]:
    """Create the views and macros of the chosen stages, and return the files that they read."""
    computed = [stage for stage in (chosen.embeddings, chosen.predictions) if stage]
    sources: dict[str, list[tuple[Stage, list[str]]]] = {
        "images": [(chosen.pool, chosen.pool.files)],
        "quarantine": [(stage, stage.quarantine_files) for stage in (chosen.pool, *computed)],
        "embeddings": [(stage, stage.files) for stage in computed if stage.kind == "embeddings"],
        "labels": [(stage, stage.files) for stage in chosen.labels.values()],
        "predictions": [(stage, stage.files) for stage in computed if stage.kind == "predictions"],
    }
    files = [file for pairs in sources.values() for _, names in pairs for file in names]
    _register_bucket(connection, chosen.pool.folder)
    for name, schema in VIEWS.items():
        types = _sql_types(connection, _with_dim(schema, chosen.dim))
        connection.execute(_view(name, types, sources[name]))
    connection.execute(_MACROS)
    return files


def _with_dim(schema: pa.Schema, dim: int | None) -> pa.Schema:
    """Set the length of the embeddings' vectors in a schema, if it has them."""
    index = schema.get_field_index("embedding")
    if index < 0 or dim is None:
        return schema
    return schema.set(index, pa.field("embedding", pa.list_(pa.float32(), dim)))


def _sql_types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """Return the SQL type of each column."""
    relation = connection.from_arrow(schema.empty_table())
    return {key: str(kind) for key, kind in zip(relation.columns, relation.dtypes, strict=True)}


def _register_bucket(connection: duckdb.DuckDBPyConnection, uri: str) -> None:
    if not is_local(uri):
        filesystem, _ = open_filesystem(uri)
        connection.register_filesystem(filesystem)


def _view(name: str, types: dict[str, str], sources: Sequence[tuple[Stage, list[str]]]) -> str:
    """Return the statement of one view; without files it has its columns and no rows."""
    selects = [_select(types, stage.digest, files) for stage, files in sources if files]
    nothing = ", ".join(f"NULL::{kind} AS {key}" for key, kind in types.items())
    empty = f"SELECT {nothing}, NULL::VARCHAR AS digest WHERE false"
    return f"CREATE VIEW {name} AS {' UNION ALL '.join(selects) or empty}"


def _select(types: dict[str, str], digest: str, files: Sequence[str]) -> str:
    columns = ", ".join(f"{key}::{kind} AS {key}" for key, kind in types.items())
    names = ", ".join(literal(escape(file)) for file in files)
    return (
        f"SELECT {columns}, {literal(digest)} AS digest "  # noqa: S608  # literals are quoted
        f"FROM read_parquet([{names}], hive_partitioning = false)"
    )
