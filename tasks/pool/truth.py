"""True labels of some images by their ids, a range at a time."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.pool.given_labels import LABELLED
from tasks.refs import Split, TaskRef
from tasks.storage.ranges import Span, overlaps, span_of_keys
from tasks.storage.stage import part_uris
from tasks.storage.store import read_keys


class TrueLabels:
    """Labels for evaluation, of which only those about the images at hand are read."""

    def __init__(self, task: TaskRef) -> None:
        self._uris = part_uris(task.uri)

    def about(self, ids: Any, split: Split | None = None) -> pa.Table:
        """Return (image_id, split, label) of those of some images that have a label.

        Args:
            ids: Distinct ids, in rising order.
            split: Of this split alone.
        """
        ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        span = span_of_keys(ids) if len(ids) else Span("", "")
        (uris,) = overlaps(self._uris, [span])
        if not uris:
            return LABELLED.empty_table()
        labels = read_keys(ids, uris, "image_id", LABELLED.names)
        return labels if split is None else labels.filter(pc.equal(labels["split"], split))
