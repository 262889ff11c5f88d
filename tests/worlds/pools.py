"""Pools of a few images, opened in this process or by workers."""

from pathlib import Path
from typing import Any

from tasks.pool.open import open_pool
from tasks.refs import PoolRef
from tasks.specs import PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import join


def tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, given by their names relative to the root, and return the root."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def pool_of(images: Path | str, runtime: RuntimeSpec, **others: Any) -> PoolRef:
    """Open the pool of some images, with the classes a and b; `others` are further settings."""
    spec = PoolSpec(images=str(images), **{"classes": "a,b", **others})
    return open_pool.fn(spec, runtime)


def rows_of(ref: PoolRef, kind: str = "images") -> list[dict[str, Any]]:
    tables = iter_tables(join(ref.uri, kind))
    return [row for table in tables for row in table.to_pylist()]


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [Path(row["uri"]).name for row in rows]
