"""DuckDB over a workspace: a connection that can read the views and nothing else."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import duckdb
import pyarrow as pa

from tasks.query.contents import Chosen, choose
from tasks.query.views import VIEWS, create_views
from tasks.specs import InputError
from tasks.storage.digests import ShardMismatch
from tasks.storage.sql import OFFLINE, Settings, escape, literal
from tasks.storage.uris import absolute, is_local, open_filesystem, redact

MEMORY_LIMIT = "2GB"  # larger results go to temporary files
MAX_SPILL = "20GB"
_LINES = 6  # of DuckDB's message; the rest repeats the statement
_NAME_ERRORS = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)


def open_workspace(
    workspace: str, *, pool: str | None = None, embeddings: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a locked connection with the views of a workspace; the caller closes it.

    The views `images`, `quarantine`, `embeddings`, `labels`, `predictions` and the table macros
    `class_report()` and `similar_images(id, k)` show the newest pool and the stages computed from
    it. The connection reads the files of these views and no others, writes none, loads no
    extension, reaches no network, sees no variable of Python, and its settings are final.

    Args:
        workspace: Folder or URI.
        pool: Digest of a pool, or its first characters; the newest by default.
        embeddings: Digest of embeddings, or its first characters; by default those of the newest
            backbone.

    Raises:
        InputError: there is no such workspace or digest, or a file is damaged.
    """
    with as_input_errors():
        return connect(choose(absolute(workspace), pool=pool, embeddings=embeddings))


def run_sql(
    workspace: str, sql: str, *, pool: str | None = None, embeddings: str | None = None
) -> pa.Table:
    """Run one SELECT in the locked connection and return its rows.

    Args:
        workspace: Folder or URI.
        sql: A single SELECT.
        pool: As for `open_workspace`.
        embeddings: As for `open_workspace`.

    Raises:
        InputError: as `open_workspace`, or the SQL is invalid or not a single SELECT.
    """
    with (
        open_workspace(workspace, pool=pool, embeddings=embeddings) as connection,
        as_input_errors(),
    ):
        try:
            _check_reads(connection, sql)
            return connection.sql(sql).to_arrow_table()
        except _NAME_ERRORS as error:
            raise InputError(f"{_first_lines(error)}\n{_list_views(connection)}") from error


def connect(chosen: Chosen) -> duckdb.DuckDBPyConnection:
    """Return a locked connection with the views of the chosen stages."""
    connection = duckdb.connect(":memory:", config=_settings())
    try:
        files = create_views(connection, chosen)
        allowed = ", ".join(literal(name) for name in _allowed_names(files))
        # In this order: each setting forbids changes of the one before it.
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Raise errors of files and SQL as InputError."""
    try:
        yield
    except duckdb.Error as error:
        raise InputError(_first_lines(error)) from error
    except (ShardMismatch, OSError, pa.ArrowException) as error:
        message = redact(str(error))
        raise InputError(f"the workspace cannot be read: {message}") from error


def _settings() -> Settings:
    return {
        **OFFLINE,
        "allow_community_extensions": "false",
        "max_temp_directory_size": MAX_SPILL,
        "memory_limit": MEMORY_LIMIT,
        "python_enable_replacements": "false",
        # DuckDB creates it when needed and removes it when the connection closes.
        "temp_directory": os.path.join(tempfile.gettempdir(), f"coft-{uuid4().hex}"),  # noqa: PTH118
        "threads": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2),
    }


def _allowed_names(files: list[str]) -> list[str]:
    """Return each file as views name it, and as DuckDB names it once a pattern is expanded."""
    names = dict.fromkeys(name for file in files for name in (file, escape(file)))
    for file in files:
        if not is_local(file):
            filesystem, path = open_filesystem(file)
            names[str(filesystem.unstrip_protocol(path))] = None
    return list(names)


def _check_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse all but one SELECT: COPY could write to the files of the views."""
    statements = connection.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        got = " and ".join(kinds) or "nothing"
        raise InputError(f"expected one SELECT, got {got}; `coft query` only reads")


def _first_lines(error: duckdb.Error) -> str:
    lines = [line.rstrip() for line in redact(str(error)).splitlines() if line.strip()]
    return "\n".join(lines[:_LINES])


def _list_views(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the views with their columns, one on each line."""
    rows = connection.execute(
        "SELECT view_name, list(column_name ORDER BY column_index)"
        " FROM duckdb_views() JOIN duckdb_columns() ON view_name = table_name"
        " WHERE NOT duckdb_views.internal GROUP BY 1 ORDER BY 1"
    ).fetchall()
    views = {name: columns for name, columns in rows if name in VIEWS}
    lines = (f"  {name} ({', '.join(columns)})" for name, columns in views.items())
    return "\n".join(["There are:", *lines])
