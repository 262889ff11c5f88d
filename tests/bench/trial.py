"""A trial: its options, its images in memory, and the row of results that it fills."""

import argparse
import time
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipcore import backbone as backbones
from clipcore import metrics
from clipcore.coft.guard import Candidate, coherence, unread
from clipcore.propagation import affinity_graph, propagate
from clipcore.zero_shot import class_embeddings
from tasks.specs import CoftSpec
from tests.bench.measure import say
from tests.bench.trial_data import Images, read_images, spec_of


class Trial:
    """One run: its options, its images, and the row that it fills."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        spec = spec_of(options.data, options.bench, options.cache, options.seed)
        phase2: dict[str, Any] = {"epochs": options.epochs or spec.phase2.epochs}
        if options.learning_rate is not None:
            phase2["learning_rate"] = options.learning_rate
        if options.alphas is not None:
            phase2["wise_alphas"] = tuple(options.alphas)
        self.spec: CoftSpec = spec.model_copy(
            update={"phase2": spec.phase2.model_copy(update=phase2)}
        )
        self.backbone = backbones.load(self.spec.backbone.name)
        self.images: Images = read_images(
            self.spec,
            self.backbone,
            options.cache,
            balance=options.balance,
            most=(options.pool, options.test),
        )
        self.row: dict[str, Any] = {"options": {k: str(v) for k, v in vars(options).items()}}
        self.kept: dict[str, np.ndarray] = {}
        self._clock = time.process_time()

    @property
    def pool(self) -> slice:
        return slice(0, self.images.num_pool)

    @cached_property
    def num_held_out(self) -> int:
        """Return how many images the guard looks at."""
        return int(self.images.is_held_out.sum())

    def candidate(self, epoch: int, alpha: float, posterior: Tensor) -> Candidate:
        """Return what the guard knows of class probabilities of the judged images."""
        num = self.num_held_out
        labels, features = posterior.argmax(dim=1)[:num], self.unread[:num]
        measured = coherence(labels, features, num_classes=posterior.shape[1])
        return Candidate(epoch, alpha, measured)

    @cached_property
    def unread(self) -> Tensor:
        """Return what zero-shot does not read of the judged images."""
        templates = self.spec.label.templates
        read = class_embeddings(self.backbone, self.images.classes, templates)
        return unread(self.images.features[self.judged], read)

    @cached_property
    def judged(self) -> Tensor:
        """Return the rows of the held-out images, and of the test images."""
        (held_out,) = self.images.is_held_out.nonzero(as_tuple=True)
        return torch.cat([held_out, torch.arange(self.pool.stop, len(self.images.labels))])

    def note(self, stage: str, posterior: Tensor, **more: float) -> None:
        """Write down how right class probabilities are, of all or of the judged, and CPU time."""
        now = time.process_time()
        is_all = len(posterior) == len(self.images.labels)
        rows = torch.arange(len(posterior)) if is_all else self.judged
        truth, said = self.images.labels[rows], posterior.argmax(dim=1)
        in_test = rows >= self.pool.stop
        confusion = metrics.confusion_matrix(
            truth[in_test], said[in_test], num_classes=posterior.shape[1]
        )
        recall = metrics.recall_per_class(confusion)
        found = {
            "test": metrics.accuracy(confusion),
            "recall": float(recall[confusion.sum(dim=1) > 0].mean()),
            "pool" if is_all else "held_out": float((truth == said)[~in_test].float().mean()),
            **more,
            "cpu": now - self._clock,
        }
        self._clock = now
        self.row[stage] = {name: round(value, 4) for name, value in found.items()}
        say(f"  {stage}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))

    def precision(self, rows: Tensor, labels: Tensor) -> dict[str, float]:
        """Return how many labels are trained on, and how many of them are right."""
        right = (self.images.labels[rows] == labels).float().mean()
        return {"labels": len(rows), "precision": float(right)}

    def keep(self, name: str, logits: Tensor) -> None:
        """Keep what a model says of the judged images."""
        if len(logits) == len(self.images.labels):
            logits = logits[self.judged]
        self.kept[name] = logits.half().numpy()

    def spread(self, features: list[Tensor], posterior: Tensor) -> Tensor:
        """Return posteriors spread over the pool's neighbours; those of test images stay."""
        pool, options = self.pool, self.options
        graph = affinity_graph([one[pool] for one in features], k=options.k)
        spread = propagate(posterior[pool], graph, steps=options.steps, alpha=options.alpha)
        return torch.cat([spread, posterior[pool.stop :]])
