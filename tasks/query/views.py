"""The views of a workspace as SQL over explicit files; `literal` quotes every name."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tasks.images import quarantine
from tasks.pool.catalog import IMAGES
from tasks.query.contents import Chosen, Stage
from tasks.storage.schemas import LABELS, PREDICTIONS
from tasks.storage.sql import literal, parquet, reach

_LABEL = pa.field("label", pa.string())
VIEWS: dict[str, pa.Schema] = {
    "images": pa.schema([*IMAGES, _LABEL]),
    "quarantine": quarantine.SCHEMA,
    "embeddings": pa.schema([("image_id", pa.string()), ("embedding", pa.list_(pa.float32(), 1))]),
    "labels": LABELS,
    "predictions": PREDICTIONS,
}
"""The columns of each view; every view also has `digest`, that of the stage."""

_MACROS = """
CREATE MACRO similar_images(id, k) AS TABLE
    SELECT e.image_id, i.uri, array_cosine_similarity(e.embedding, q.embedding) AS similarity
    FROM embeddings e
    JOIN (SELECT embedding FROM embeddings WHERE image_id = id) q ON e.image_id <> id
    LEFT JOIN images i ON i.image_id = e.image_id AND i.duplicate_of IS NULL
    ORDER BY similarity DESC LIMIT k;
CREATE MACRO class_report() AS TABLE
    WITH predicted AS (
        SELECT label, count(*) AS num_predicted, avg(confidence) AS mean_confidence
        FROM predictions GROUP BY 1
    ), kept AS (
        SELECT label, count(DISTINCT image_id) AS num_kept
        FROM labels WHERE kept AND starts_with(source, 'peer-') GROUP BY 1
    ), labeled AS (
        SELECT i.label, count(*) AS num_labeled, avg((p.label = i.label)::INT) AS recall
        FROM images i JOIN predictions p USING (image_id)
        WHERE i.duplicate_of IS NULL AND i.label IS NOT NULL GROUP BY 1
    )
    SELECT label, coalesce(num_predicted, 0) AS num_predicted, mean_confidence,
        coalesce(num_kept, 0) AS num_kept, coalesce(num_labeled, 0) AS num_labeled, recall
    FROM predicted FULL JOIN kept USING (label) FULL JOIN labeled USING (label)
    ORDER BY label;
"""


def create_views(connection: duckdb.DuckDBPyConnection, chosen: Chosen) -> list[str]:
    """Create the views and macros of the chosen stages, and return the files that they read."""
    seen = [] if chosen.embeddings is None else [chosen.embeddings]
    predictions = [] if chosen.predictions is None else [chosen.predictions]
    tables = {
        "images": [(chosen.pool.digest, _with_labels(chosen))],
        "quarantine": [
            (stage.digest, parquet(files))
            for stage in (chosen.pool, *seen)
            if (files := stage.quarantine_files)
        ],
        "embeddings": [(stage.digest, _of_images(stage, chosen)) for stage in seen],
        "labels": [(stage.digest, parquet(stage.files)) for stage in chosen.labels.values()],
        "predictions": [(stage.digest, parquet(stage.files)) for stage in predictions],
    }
    reach(connection, chosen.pool.folder)
    for name, schema in VIEWS.items():
        types = _sql_types(connection, _with_dim(schema, chosen.dim))
        connection.execute(_view(name, types, tables[name]))
    connection.execute(_MACROS)
    stages = [chosen.pool, *seen, *chosen.labels.values(), *predictions]
    stages += [] if chosen.task is None else [chosen.task]
    files = [file for stage in stages for file in stage.files]
    return files + [file for stage in (chosen.pool, *seen) for file in stage.quarantine_files]


def _with_labels(chosen: Chosen) -> str:
    """Return the SQL of the images with their true labels."""
    images = parquet(chosen.pool.files)
    if chosen.task is None or not chosen.task.files:
        return f"(SELECT *, NULL AS label FROM {images})"  # noqa: S608  # literals are quoted
    labels = parquet(chosen.task.files)
    return f"({images} LEFT JOIN (SELECT image_id, label FROM {labels}) USING (image_id))"  # noqa: S608


def _of_images(stage: Stage, chosen: Chosen) -> str:
    """Return the SQL of the embeddings of the chosen images; a store may have others too."""
    embeddings, images = parquet(stage.files), parquet(chosen.pool.files)
    if sum(part.rows for part in stage.manifest.parts) == stage.manifest.rows:
        return embeddings
    own = f"{embeddings} WHERE image_id IN (SELECT image_id FROM {images})"  # noqa: S608
    return f"(SELECT DISTINCT ON (image_id) * FROM {own})"  # noqa: S608  # literals are quoted


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


def _view(name: str, types: dict[str, str], tables: Sequence[tuple[str, str]]) -> str:
    """Return the statement of one view of (digest, table); without any it has no rows."""
    selects = [_select(types, *source) for source in tables]
    nothing = ", ".join(f"NULL::{kind} AS {key}" for key, kind in types.items())
    empty = f"SELECT {nothing}, NULL::VARCHAR AS digest WHERE false"
    return f"CREATE VIEW {name} AS {' UNION ALL '.join(selects) or empty}"


def _select(types: dict[str, str], digest: str, table: str) -> str:
    columns = ", ".join(f"{key}::{kind} AS {key}" for key, kind in types.items())
    return f"SELECT {columns}, {literal(digest)} AS digest FROM {table}"  # noqa: S608  # quoted
