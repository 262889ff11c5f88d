"""The views of a workspace as SQL: explicit files, and one place where a name becomes text."""

import re
from collections.abc import Sequence

import duckdb

from tasks.query.contents import Chosen, Stage
from tasks.storage.uris import is_local, open_filesystem

VIEWS: dict[str, dict[str, str]] = {
    "images": {
        "image_id": "VARCHAR",
        "uri": "VARCHAR",
        "width": "INTEGER",
        "height": "INTEGER",
        "bytes": "BIGINT",
        "split": "VARCHAR",
        "label": "VARCHAR",
        "duplicate_of": "VARCHAR",
    },
    "quarantine": {
        "uri": "VARCHAR",
        "stage": "VARCHAR",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "bytes": "BIGINT",
    },
    "embeddings": {"image_id": "VARCHAR", "embedding": "FLOAT[{dim}]"},
    "labels": {
        "image_id": "VARCHAR",
        "source": "VARCHAR",
        "label": "VARCHAR",
        "confidence": "FLOAT",
        "gap": "FLOAT",
        "kept": "BOOLEAN",
        "reason": "VARCHAR",
    },
    "predictions": {
        "image_id": "VARCHAR",
        "uri": "VARCHAR",
        "split": "VARCHAR",
        "label": "VARCHAR",
        "score": "FLOAT",
        "probabilities": "FLOAT[]",
        "member_labels": "VARCHAR[]",
    },
}
"""The columns of each view with their types; every view also has `digest`, that of the stage."""

_GLOB = re.compile(r"[*?\[]")

_MACROS = """
CREATE MACRO similar_images(id, k) AS TABLE
    SELECT e.image_id, i.uri, array_cosine_similarity(e.embedding, q.embedding) AS similarity
    FROM embeddings e
    JOIN (SELECT embedding FROM embeddings WHERE image_id = id) q ON e.image_id <> id
    LEFT JOIN images i ON i.image_id = e.image_id AND i.duplicate_of IS NULL
    ORDER BY similarity DESC LIMIT k;
CREATE MACRO class_report() AS TABLE
    WITH seen AS (
        SELECT label, count(*) AS num_predicted, avg(score) AS mean_score
        FROM predictions GROUP BY 1
    ), kept AS (
        SELECT label, count(DISTINCT image_id) AS num_kept
        FROM labels WHERE kept AND starts_with(source, 'peer-') GROUP BY 1
    ), judged AS (
        SELECT i.label, count(*) AS num_labeled, avg((p.label = i.label)::INT) AS recall
        FROM images i JOIN predictions p USING (image_id)
        WHERE i.duplicate_of IS NULL AND i.label IS NOT NULL GROUP BY 1
    )
    SELECT label, coalesce(num_predicted, 0) AS num_predicted, mean_score,
        coalesce(num_kept, 0) AS num_kept, coalesce(num_labeled, 0) AS num_labeled, recall
    FROM seen FULL JOIN kept USING (label) FULL JOIN judged USING (label)
    ORDER BY label;
"""


def literal(text: str) -> str:
    """Return a text as an SQL literal: the only way that a name enters a statement."""
    return "'" + text.replace("'", "''") + "'"


def escape(uri: str) -> str:
    """Return the pattern of one file; DuckDB would take a folder `a*` for a pattern otherwise."""
    return _GLOB.sub(lambda found: f"[{found[0]}]", uri)


def create_views(connection: duckdb.DuckDBPyConnection, chosen: Chosen) -> list[str]:
    """Create the views and macros of the chosen stages, and return the files that they read."""
    made = [stage for stage in (chosen.embeddings, chosen.predictions) if stage]
    sources: dict[str, list[tuple[Stage, list[str]]]] = {
        "images": [(chosen.pool, chosen.pool.files)],
        "quarantine": [(stage, stage.quarantine_files) for stage in (chosen.pool, *made)],
        "embeddings": [(stage, stage.files) for stage in made if stage.kind == "embeddings"],
        "labels": [(stage, stage.files) for stage in chosen.labels.values()],
        "predictions": [(stage, stage.files) for stage in made if stage.kind == "predictions"],
    }
    files = [file for pairs in sources.values() for _, names in pairs for file in names]
    _register_bucket(connection, chosen.pool.folder)
    for name, columns in VIEWS.items():
        types = {key: kind.format(dim=chosen.dim or 1) for key, kind in columns.items()}
        connection.execute(_view(name, types, sources[name]))
    connection.execute(_MACROS)
    return files


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
