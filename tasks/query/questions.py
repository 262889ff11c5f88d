"""The four named questions: what is similar, double, strange, or in dispute."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from tasks.query.contents import Chosen, Stage, choose
from tasks.query.neighbours import close_pairs, nearest, vector_of
from tasks.query.outlying import least_typical
from tasks.query.sandbox import as_input_errors, connect
from tasks.specs import InputError
from tasks.storage.uris import absolute, redact

_SHOWN = 5  # candidates that a message lists

_FIND = """
SELECT DISTINCT image_id FROM images WHERE image_id = $1 OR uri = $1
UNION ALL BY NAME SELECT DISTINCT image_id FROM images
WHERE NOT EXISTS (FROM images WHERE image_id = $1 OR uri = $1)
    AND (starts_with(image_id, $1) OR ends_with(uri, '/' || $1))
LIMIT 6
"""

_DISAGREEMENTS = """
WITH zero AS (SELECT image_id, label, confidence FROM labels WHERE source = 'zero-shot'),
disputes AS (
    SELECT image_id, 'members' AS between, member_labels[1] AS first, member_labels[2] AS second,
        least(1.0, 2 * list_reverse_sort(probabilities)[2]) AS confidence
    FROM predictions WHERE len(list_distinct(member_labels)) > 1
    UNION ALL
    SELECT image_id, 'zero-shot and adapted', z.label, p.label, least(z.confidence, p.score)
    FROM zero z JOIN predictions p USING (image_id) WHERE z.label <> p.label
    UNION ALL
    SELECT image_id, 'peers', a.label, b.label, least(a.confidence, b.confidence)
    FROM labels a JOIN labels b USING (image_id)
    WHERE a.source = 'peer-1' AND b.source = 'peer-2' AND a.label <> b.label
        AND NOT EXISTS (FROM predictions)
)
SELECT d.image_id, i.uri, i.split, d.between, d.first, d.second, d.confidence::FLOAT AS confidence
FROM disputes d JOIN images i ON i.image_id = d.image_id AND i.duplicate_of IS NULL
QUALIFY row_number() OVER (PARTITION BY d.image_id ORDER BY d.confidence DESC, between) = 1
ORDER BY confidence DESC, d.image_id LIMIT $1
"""


@dataclass(frozen=True)
class _Asked:
    """A workspace while it is being asked."""

    chosen: Chosen
    connection: duckdb.DuckDBPyConnection

    @property
    def vectors(self) -> Stage:
        """Return the embeddings; raises InputError where there are none."""
        if self.chosen.embeddings is None:
            raise InputError("this pool has no embeddings yet; run `coft embed`")
        return self.chosen.embeddings

    def answer(self, sql: str, rows: pa.Table) -> pa.Table:
        """Return what SQL makes of rows, which it knows as `found`, in their order."""
        self.connection.register("found", rows)
        return self.connection.sql(sql).to_arrow_table()


def similar(
    workspace: str,
    image: str,
    k: int = 10,
    *,
    pool: str | None = None,
    embeddings: str | None = None,
) -> pa.Table:
    """Return the k images with the highest cosine similarity to one image, best first.

    Args:
        workspace: Folder or URI.
        image: An image_id or a URI, or how one image_id begins, or how one path ends (`cat.jpg`).
        k: How many.
        pool: Digest of another pool than the newest, or how it begins.
        embeddings: Digest of other embeddings than those of the newest backbone.

    Returns:
        Columns image_id, uri, split, label, similarity.

    Raises:
        InputError: no image, or several, answer to the name; or it has no embedding.
    """
    _check_count(k)
    with _asked(workspace, pool, embeddings) as asked:
        image_id = _find(asked, image)
        query = vector_of(asked.vectors, image_id)
        if query is None:
            raise InputError(
                f"{redact(image)}: the image is in the pool but has no embedding; "
                "`coft query` on the view quarantine says why, or run `coft embed` to the end"
            )
        found = nearest(asked.vectors, query, k, without=image_id)
        rows = {"image_id": [name for name, _ in found], "similarity": [s for _, s in found]}
        schema = pa.schema([("image_id", pa.string()), ("similarity", pa.float32())])
        return asked.answer(
            "SELECT image_id, uri, split, label, similarity FROM found"
            " LEFT JOIN (FROM images WHERE duplicate_of IS NULL) USING (image_id)"
            " ORDER BY similarity DESC, image_id",
            pa.table(rows, schema=schema),
        )


def duplicates(
    workspace: str,
    threshold: float = 0.95,
    *,
    limit: int = 10_000,
    pool: str | None = None,
    embeddings: str | None = None,
) -> pa.Table:
    """Return pairs of equal files, then pairs of images of a cosine of at least `threshold`.

    Args:
        workspace: Folder or URI.
        threshold: Least cosine similarity of near duplicates, in (0, 1].
        limit: The most near duplicates; of more, the most similar.
        pool: Digest of another pool than the newest, or how it begins.
        embeddings: Digest of other embeddings than those of the newest backbone.

    Returns:
        Columns kind (`exact`, `near`), uri, other_uri, similarity, image_id, other_image_id.

    Raises:
        InputError: the threshold is out of range, or there are no embeddings.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"expected a threshold above 0 and at most 1, got {threshold:g}")
    _check_count(limit)
    with _asked(workspace, pool, embeddings) as asked:
        found = close_pairs(asked.vectors, threshold, limit=limit)
        names = ("image_id", "other_image_id", "similarity")
        kinds = (pa.string(), pa.string(), pa.float32())
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        columns = {name: [row[place] for row in found] for place, name in enumerate(names)}
        return asked.answer(
            "WITH one AS (SELECT image_id, uri FROM images WHERE duplicate_of IS NULL)"
            " SELECT 'exact' AS kind, duplicate_of AS uri, uri AS other_uri,"
            " 1::FLOAT AS similarity, image_id, image_id AS other_image_id"
            " FROM images WHERE duplicate_of IS NOT NULL"
            " UNION ALL SELECT 'near', a.uri, b.uri, similarity, f.image_id, other_image_id"
            " FROM found f LEFT JOIN one a ON a.image_id = f.image_id"
            " LEFT JOIN one b ON b.image_id = other_image_id"
            " ORDER BY kind, similarity DESC, uri, other_uri",
            pa.table(columns, schema=schema),
        )


def outliers(
    workspace: str, k: int = 20, *, pool: str | None = None, embeddings: str | None = None
) -> pa.Table:
    r"""Return the k images that are least typical of their predicted class, strangest first.

    With $f_i$ the unit embedding of image $i$ and $y_i$ its class,

    $$t_i = f_i \cdot \frac{c_{y_i}}{\|c_{y_i}\|}, \qquad c_y = \sum_{j: y_j = y} f_j .$$

    The class is that of `predictions`, else of zero-shot labels; without either, all images count
    as one class. Two passes over the embeddings, whatever their number.

    Returns:
        Columns image_id, uri, split, predicted (null without classes), similarity $t_i$, and
        class_similarity, the mean of $t$ in the class.

    Raises:
        InputError: there are no embeddings.
    """
    _check_count(k)
    with _asked(workspace, pool, embeddings) as asked:
        labelling = asked.chosen.predictions or asked.chosen.labels.get("zero-shot")
        found, means = least_typical(asked.vectors, labelling, k)
        columns = {
            "image_id": pa.array([row[0] for row in found], pa.string()),
            "predicted": pa.array([row[1] or None for row in found], pa.string()),
            "similarity": pa.array([row[2] for row in found], pa.float32()),
            "class_similarity": pa.array([means[row[1]] for row in found], pa.float32()),
        }
        return asked.answer(
            "SELECT image_id, uri, split, predicted, similarity, class_similarity FROM found"
            " LEFT JOIN (FROM images WHERE duplicate_of IS NULL) USING (image_id)"
            " ORDER BY similarity, image_id",
            pa.table(columns),
        )


def disagreements(workspace: str, k: int = 20, *, pool: str | None = None) -> pa.Table:
    """Return the k images that two labellers are surest of and name differently, surest first.

    Compared are the members of the adapted classifier with each other, and zero-shot with the
    classifier; before there are predictions, the two peers of Phase I. The confidence of a dispute
    is that of its less confident side. For members, whose own confidences are not kept, it is twice
    the second highest mean probability: equal to that when each gives the other's class nothing.

    Returns:
        Columns image_id, uri, split, between, first, second (the two labels), confidence; one row
        an image.

    Raises:
        InputError: the pool has nothing to compare.
    """
    _check_count(k)
    with _asked(workspace, pool, None) as asked:
        if not asked.chosen.predictions and "peer-2" not in asked.chosen.labels:
            raise InputError("nothing to compare yet: this pool has no peers and no predictions")
        return asked.connection.sql(_DISAGREEMENTS, params=[k]).to_arrow_table()


@contextmanager
def _asked(workspace: str, pool: str | None, embeddings: str | None) -> Iterator[_Asked]:
    with as_input_errors():
        chosen = choose(absolute(workspace), pool=pool, embeddings=embeddings)
        with connect(chosen) as connection:
            yield _Asked(chosen, connection)


def _check_count(k: int) -> None:
    if k < 1:
        raise InputError(f"expected a number of rows of at least 1, got {k}")


def _find(asked: _Asked, image: str) -> str:
    """Return the id of the one image that a name means."""
    rows = asked.connection.execute(_FIND, [image]).fetchall() if image else []
    found = [str(row[0]) for row in rows]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{redact(image)!r}: no image of the pool has this image_id or uri; "
            "`coft query` on the view images lists them"
        )
    some = ", ".join(name[:16] for name in found[:_SHOWN])
    raise InputError(f"{redact(image)!r}: several images begin or end so: {some}, ...")
