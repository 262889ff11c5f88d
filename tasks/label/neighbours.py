"""Labels that neighbours agree on, before the peers judge them: wrong ones are outvoted.

A first time the peers of Phase I say what is believed and what looks alike; a further time the
networks of Phase II, which were trained on the labels before.

Up to `max_images` images of the pool form one graph, in one worker. 50,000 of them take some 0.1 GB
beside their features. Of a larger pool the lowest ids, which are hashes and so a fair draw, form
it, and every other image listens to its nearest ones among them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore.propagation import affinity_graph, fitting_k, join_graph, propagate
from tasks.compute.calls import run_tasks
from tasks.label.people import answers_about
from tasks.label.table import (
    Target,
    digests,
    label_parts,
    labelling_facts,
    labels_once,
    labels_table,
    write_part,
)
from tasks.pool.shards import Shard, shards
from tasks.refs import AnswersRef, ImagesRef, LabelsRef, Phase1Round, PredictionsRef, TaskRef
from tasks.specs import CoftSpec, NeighboursSpec
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, step
from tasks.weights import logits_of, read_dual_head

BELIEFS, FEATURES = "beliefs.safetensors", "features.safetensors"  # of the images of the graph
SOURCE = "neighbours"


@step("label by neighbours")
def label_by_neighbours(  # what a labelling depends on
    last: Phase1Round | PredictionsRef,
    images: ImagesRef,
    task: TaskRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
    *,
    number: int = 0,
) -> LabelsRef:
    """Spread what two towers believe over the images that both see alike, and label the pool.

    What people answered is believed without doubt.

    Args:
        last: Both peers or both networks, and the images as each of them sees them.
        images: The images.
        task: The classes.
        spec: `plus.neighbours`, and where to run.
        answers: People's answers, if there are any.
        number: Of the round of Phase II; the first one has 0.
    """
    settings, runtime = spec.plus.neighbours, spec.runtime
    made_from = (last,) if isinstance(last, PredictionsRef) else last.peers
    inputs = [stage.digest for stage in (*made_from, *last.features)]
    graph = settings.model_dump(exclude={"rounds"})
    digest = fingerprint(Folder.LABELS, SOURCE, inputs, graph, *digests(answers))
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)
    heads = tuple(one.uri for one in made_from)
    is_peers = isinstance(last, Phase1Round)
    source = f"{SOURCE}-round-{number}" if number else SOURCE
    belief = _Belief(folder, source, heads, is_peers, task.classes, answers, settings)

    def compute() -> Outcome:
        parts = shards(images, *last.features)
        list(run_tasks(_write_beliefs, [(belief, parts)], runtime=runtime))
        return label_parts(
            _label_part,
            [(Target(folder, digest, part.span), belief, part) for part in parts],
            label="Label by neighbours",
            total=images.num_pool,
            runtime=runtime,
            about=labelling_facts(images, task),
        )

    return labels_once(folder, digest, source, compute)


@dataclass(frozen=True)
class _Belief:
    """What is believed of images before and after it spread, and where that is written."""

    folder: str
    source: str
    heads: tuple[str, ...]  # of the peers, or of predictions
    is_peers: bool
    classes: tuple[str, ...]
    answers: AnswersRef | None
    settings: NeighboursSpec

    def of(self, part: Shard) -> tuple[pa.Array, list[Tensor], Tensor]:
        """Return ids, features of each tower and class probabilities of the pool images of a part.

        They are the mean of both towers, or the answer of a person.
        """
        ids, features = part.features_of_all("pool")
        mean = torch.stack(self._said(features)).mean(dim=0)
        answered = answers_about(ids, self.answers, self.classes).labels
        is_answered = answered >= 0
        sure = torch.nn.functional.one_hot(answered.clamp(min=0), len(self.classes))
        return ids, features, torch.where(is_answered[:, None], sure.to(mean), mean)

    def _said(self, features: Sequence[Tensor]) -> list[Tensor]:
        if not self.is_peers:
            return list(logits_of(self.heads[0], features).softmax(dim=2))
        heads = [read_dual_head(peer).positive for peer in self.heads]
        return [head.probabilities(seen) for head, seen in zip(heads, features, strict=True)]


def _write_beliefs(belief: _Belief, parts: Sequence[Shard]) -> None:
    """Spread beliefs over the graph, and write them; features only if others will ask for them."""
    settings = belief.settings
    ids, features, posteriors = list[str](), list[tuple[Tensor, ...]](), list[Tensor]()
    room = settings.max_images
    for found, seen, believed in _until(room, map(belief.of, parts)):
        ids += found.to_pylist()
        features.append(seen)
        posteriors.append(believed)
    together = [torch.cat(sets) for sets in zip(*features, strict=True)]
    k = fitting_k(len(ids), len(belief.classes), most=settings.k)
    graph = affinity_graph(together, k=k)
    spread = propagate(torch.cat(posteriors), graph, steps=settings.steps, alpha=settings.alpha)
    if len(ids) == room:
        named = {str(number): one for number, one in enumerate(together)}
        write_tensors(belief.folder, FEATURES, named, {})
    write_tensors(belief.folder, BELIEFS, {"posteriors": spread}, {"ids": ids})


def _until(
    room: int, parts: Iterator[tuple[pa.Array, list[Tensor], Tensor]]
) -> Iterator[tuple[pa.Array, tuple[Tensor, ...], Tensor]]:
    """Yield parts until there are so many images."""
    for ids, features, believed in parts:
        yield ids[:room], tuple(seen[:room] for seen in features), believed[:room]
        room -= len(ids)
        if room <= 0:
            return


def _label_part(target: Target, belief: _Belief, part: Shard) -> int:
    """Label one part: images of the graph as it says, others by their nearest ones in it."""
    tensors, header = read_tensors(belief.folder, BELIEFS)
    place = {image: number for number, image in enumerate(header["ids"])}
    spread = tensors["posteriors"]
    ids, features, posteriors = belief.of(part)
    where = torch.tensor([place.get(image, -1) for image in ids.to_pylist()], dtype=torch.long)
    others = where < 0
    if others.any():
        known = read_tensors(belief.folder, FEATURES)[0]
        posteriors[others] = join_graph(
            posteriors[others],
            [seen[others] for seen in features],
            spread,
            [known[str(number)] for number in range(len(features))],
            k=fitting_k(len(spread), len(belief.classes), most=belief.settings.k),
            alpha=belief.settings.alpha,
        )
    posteriors[~others] = spread[where[~others]]
    confidence, labels = posteriors.max(dim=1)
    kept = np.ones(len(ids), bool)
    rows = labels_table(ids, belief.source, labels, confidence, classes=belief.classes, kept=kept)
    return write_part(target, rows)
