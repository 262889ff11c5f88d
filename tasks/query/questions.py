"""Four questions: similar images, duplicates, outliers, and disagreements of models."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from tasks.on_demand import OnDemand
from tasks.pool.shards import Shard
from tasks.query.contents import Chosen, choose
from tasks.query.sandbox import as_input_errors, connect
from tasks.specs import InputError
from tasks.storage.uris import absolute, redact

if TYPE_CHECKING:
    from tasks.query import neighbours, outlying
else:  # they compute with PyTorch, where there is something to compute with
    neighbours, outlying = OnDemand("tasks.query.neighbours"), OnDemand("tasks.query.outlying")

_MAX_CANDIDATES = 5  # that a message lists

_FIND = """
SELECT DISTINCT image_id FROM images WHERE image_id = $1 OR uri = $1
UNION ALL BY NAME SELECT DISTINCT image_id FROM images
WHERE NOT EXISTS (FROM images WHERE image_id = $1 OR uri = $1)
    AND (starts_with(image_id, $1) OR ends_with(uri, '/' || $1))
LIMIT 6
"""

_PAIRS = pa.schema(
    [("image_id", pa.string()), ("other_image_id", pa.string()), ("similarity", pa.float32())]
)
_DUPLICATES = """
WITH one AS (SELECT image_id, uri FROM images WHERE duplicate_of IS NULL)
SELECT 'exact' AS kind, duplicate_of AS uri, uri AS other_uri, 1::FLOAT AS similarity, image_id,
    image_id AS other_image_id
FROM images WHERE duplicate_of IS NOT NULL
UNION ALL
SELECT 'near', a.uri, b.uri, similarity, m.image_id, other_image_id
FROM matches m LEFT JOIN one a ON a.image_id = m.image_id
LEFT JOIN one b ON b.image_id = other_image_id
ORDER BY kind, similarity DESC, uri, other_uri
"""

_DISAGREEMENTS = """
WITH zero AS (SELECT image_id, label, confidence FROM labels WHERE source = 'zero-shot'),
disputes AS (
    SELECT image_id, 'members' AS between, member_labels[1] AS first, member_labels[2] AS second,
        least(1.0, 2 * list_reverse_sort(probabilities)[2]) AS confidence
    FROM predictions WHERE len(list_distinct(member_labels)) > 1
    UNION ALL
    SELECT image_id, 'zero-shot and adapted', z.label, p.label, least(z.confidence, p.confidence)
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
class _Workspace:
    """The chosen stages of a workspace and a connection to them."""

    chosen: Chosen
    connection: duckdb.DuckDBPyConnection

    @property
    def vectors(self) -> list[Shard]:
        """The images with their embeddings; raises InputError without any."""
        if self.chosen.embeddings is None:
            raise InputError("these images have no embeddings yet; run `coft embed`")
        return self.chosen.shards(self.chosen.embeddings)

    @property
    def labelled_vectors(self) -> list[Shard]:
        """The images with their embeddings and what they were put in, if they were."""
        labelling = self.chosen.predictions or self.chosen.labels.get("zero-shot")
        if self.chosen.embeddings is None or labelling is None:
            return self.vectors
        return self.chosen.shards(self.chosen.embeddings, labelling)

    def join_images(self, sql: str, matches: pa.Table) -> pa.Table:
        """Run SQL that joins `matches`, a table of image ids, with the view of images."""
        self.connection.register("matches", matches)
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
        image: An image_id or a URI, or the start of an image_id, or the end of a path (`cat.jpg`).
        k: Number of images.
        pool: Digest of a pool, or its first characters; the newest by default.
        embeddings: Digest of embeddings, or its first characters; by default those of the newest
            backbone.

    Returns:
        Columns image_id, uri, split, label, similarity.

    Raises:
        InputError: no image or several have this name, or the image has no embedding.
    """
    _check_count(k)
    with _open(workspace, pool, embeddings) as opened:
        image_id = _find_image(opened, image)
        query = neighbours.vector_of(opened.vectors, image_id)
        if query is None:
            raise InputError(
                f"{redact(image)}: the image is in the pool but has no embedding; "
                "`coft query` on the view quarantine says why, or run `coft embed` to the end"
            )
        pairs = neighbours.nearest(opened.vectors, query, k, without=image_id)
        rows = {"image_id": [name for name, _ in pairs], "similarity": [s for _, s in pairs]}
        schema = pa.schema([("image_id", pa.string()), ("similarity", pa.float32())])
        return opened.join_images(
            "SELECT image_id, uri, split, label, similarity FROM matches"
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
        limit: Largest number of near duplicates; the most similar are kept.
        pool: Digest of a pool, or its first characters; the newest by default.
        embeddings: Digest of embeddings, or its first characters; by default those of the newest
            backbone.

    Returns:
        Columns kind (`exact`, `near`), uri, other_uri, similarity, image_id, other_image_id.

    Raises:
        InputError: the threshold is out of range, or there are no embeddings.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"expected a threshold above 0 and at most 1, got {threshold:g}")
    _check_count(limit)
    with _open(workspace, pool, embeddings) as opened:
        pairs = neighbours.close_pairs(opened.vectors, threshold, limit=limit)
        columns = zip(*pairs, strict=True) if pairs else [()] * len(_PAIRS)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, _PAIRS, strict=True)]
        return opened.join_images(_DUPLICATES, pa.Table.from_arrays(arrays, schema=_PAIRS))


def outliers(
    workspace: str, k: int = 20, *, pool: str | None = None, embeddings: str | None = None
) -> pa.Table:
    r"""Return the k images that are least typical of their predicted class, strangest first.

    With $f_i$ the unit embedding of image $i$ and $y_i$ its class,

    $$t_i = f_i \cdot \frac{c_{y_i}}{\|c_{y_i}\|}, \qquad c_y = \sum_{j: y_j = y} f_j .$$

    The class is that of `predictions`, else of zero-shot labels; without either, all images are
    in one class. The embeddings are read twice.

    Returns:
        Columns image_id, uri, split, predicted (null without classes), similarity $t_i$, and
        class_similarity, the mean of $t$ in the class.

    Raises:
        InputError: there are no embeddings.
    """
    _check_count(k)
    with _open(workspace, pool, embeddings) as opened:
        lowest, means = outlying.least_typical(opened.labelled_vectors, k)
        columns = {
            "image_id": pa.array([row[0] for row in lowest], pa.string()),
            "predicted": pa.array([row[1] or None for row in lowest], pa.string()),
            "similarity": pa.array([row[2] for row in lowest], pa.float32()),
            "class_similarity": pa.array([means[row[1]] for row in lowest], pa.float32()),
        }
        return opened.join_images(
            "SELECT image_id, uri, split, predicted, similarity, class_similarity FROM matches"
            " LEFT JOIN (FROM images WHERE duplicate_of IS NULL) USING (image_id)"
            " ORDER BY similarity, image_id",
            pa.table(columns),
        )


def disagreements(workspace: str, k: int = 20, *, pool: str | None = None) -> pa.Table:
    """Return the k images that two models label differently with the highest confidence.

    The members of the adapted classifier are compared with each other, and zero-shot labels with
    the classifier; before there are predictions, the two peers of Phase I. The confidence of a
    disagreement is that of its less confident side. For members, whose own confidences are not
    stored, it is twice the second highest mean probability, which is equal if each member gives
    the other's class no probability.

    Returns:
        Columns image_id, uri, split, between, first, second (the two labels), confidence; one row
        for each image, the highest confidence first.

    Raises:
        InputError: the pool has nothing to compare.
    """
    _check_count(k)
    with _open(workspace, pool, None) as opened:
        if not opened.chosen.predictions and "peer-2" not in opened.chosen.labels:
            raise InputError("nothing to compare yet: this pool has no peers and no predictions")
        return opened.connection.sql(_DISAGREEMENTS, params=[k]).to_arrow_table()


@contextmanager
def _open(workspace: str, pool: str | None, embeddings: str | None) -> Iterator[_Workspace]:
    with as_input_errors():
        chosen = choose(absolute(workspace), pool=pool, embeddings=embeddings)
        with connect(chosen) as connection:
            yield _Workspace(chosen, connection)


def _check_count(k: int) -> None:
    if k < 1:
        raise InputError(f"expected a number of rows of at least 1, got {k}")


def _find_image(opened: _Workspace, image: str) -> str:
    """Return the id of the only image with this name."""
    rows = opened.connection.execute(_FIND, [image]).fetchall() if image else []
    candidates = [str(row[0]) for row in rows]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(
            f"{redact(image)!r}: no image of the pool has this image_id or uri; "
            "`coft query` on the view images lists them"
        )
    ids = ", ".join(name[:16] for name in candidates[:_MAX_CANDIDATES])
    raise InputError(f"{redact(image)!r}: several images begin or end so: {ids}, ...")
