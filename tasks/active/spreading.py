"""Pseudo-labels by what answers say of images that look like theirs, part by part.

Up to `MAX_IMAGES` images form one graph, the answered ones among them: 50,000 take some 0.1 GB
beside their features. Of a larger pool the lowest ids, which are hashes and so a fair draw, form
it, and every other image listens to its nearest ones in it.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.spreading import spread, with_answers
from clipcore.propagation import fitting_k, join_graph
from tasks.label.people import answers_about
from tasks.pool.shards import ID, Shard
from tasks.refs import AnswersRef
from tasks.storage.columns import matrix_of

MAX_IMAGES = 50_000
FEATURES, SCORES = 0, 1  # stages of a shard

Beliefs = tuple[pa.Array, Tensor, Tensor, Tensor]
"""(ids, features of the start, class probabilities, whether somebody answered) of pool images."""


def spread_predictions(
    parts: Sequence[Shard], answers: AnswersRef, classes: tuple[str, ...]
) -> Iterator[tuple[pa.Array, Tensor, Tensor]]:
    """Yield (ids, class numbers, confidence) of pool images, after neighbours were heard.

    Args:
        parts: With the features of the start and the scores of the round before.
        answers: Believed without doubt.
        classes: The class names.
    """
    ids, features, beliefs = _graph(parts, answers, classes)
    heard = spread(beliefs, features)
    place = {image: number for number, image in enumerate(ids)}
    k = fitting_k(len(ids), len(classes))
    for part in parts:
        names, seen, believed, _ = _beliefs(part, answers, classes)
        where = torch.tensor([place.get(image, -1) for image in names.to_pylist()]).long()
        outside = where < 0
        believed[~outside] = heard[where[~outside]]
        if bool(outside.any()):
            own = believed[outside]
            believed[outside] = join_graph(own, [seen[outside]], heard, [features], k=k)
        confidence, labels = believed.max(dim=1)
        yield names, labels, confidence


def _graph(
    parts: Sequence[Shard], answers: AnswersRef, classes: tuple[str, ...]
) -> tuple[list[str], Tensor, Tensor]:
    """Return ids, features and beliefs of the images of the graph, by id."""
    room = MAX_IMAGES
    ids, features, beliefs = list[str](), list[Tensor](), list[Tensor]()
    for part in parts:
        names, seen, believed, answered = _beliefs(part, answers, classes)
        taken = answered | ((~answered).cumsum(0) <= room)
        room -= int((taken & ~answered).sum())
        ids += names.filter(pa.array(taken.numpy())).to_pylist()
        features.append(seen[taken])
        beliefs.append(believed[taken])
    return ids, torch.cat(features), torch.cat(beliefs)


def _beliefs(part: Shard, answers: AnswersRef, classes: tuple[str, ...]) -> Beliefs:
    """Return what is believed of the images that have features and scores."""
    known, vectors = part.features(FEATURES, "pool")
    scores = part.read(SCORES, [ID, "probabilities"], "pool")
    scores = scores.filter(pc.is_in(scores[ID], known))
    names = scores[ID].combine_chunks()
    rows = torch.from_numpy(pc.index_in(names, known).to_numpy().astype("int64"))
    said = scores["probabilities"].cast(pa.list_(pa.float32(), len(classes)))
    probabilities = matrix_of(pa.table({"probabilities": said}), "probabilities")
    labels = answers_about(names, answers, classes).labels
    return names, vectors[rows], with_answers(probabilities, labels), labels >= 0
