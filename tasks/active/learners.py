"""The learner of a round by its spec: how it is made, and how it is trained."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clipcore import dual
from clipcore.active import learners
from clipcore.active.training import RoundSet
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner
from clipcore.fit import Schedule
from clipcore.prompts import ContextTooLong
from clipcore.seeding import generator
from tasks.active.checks import learner_adapter
from tasks.active.specs import LearnerSpec
from tasks.specs import InputError
from tasks.storage.checkpoints import Row


def new_learner(
    backbone: Backbone,
    classes: Sequence[str],
    spec: LearnerSpec,
    *,
    given: Tensor,
    seed: int,
    flip: bool = True,
) -> DualLearner:
    """Return an untrained learner; the seed alone decides how it starts, in every round alike.

    Args:
        backbone: Frozen, with what the start learned on its tower.
        classes: The class names.
        spec: Which learner.
        given: Class embeddings of the start, for a learner whose text side stays.
        seed: Of its first weights.
        flip: Whether a mirrored image shows the same class.

    Raises:
        InputError: a class name and the learned context are too long for the text tower.
    """
    draws = generator(seed, "active", "learner")
    prompts = spec.prompts.model_dump()
    try:
        if spec.on_features:
            return learners.on_features(
                backbone, classes, learns=spec.kind == "dual", generator=draws, prompts=prompts
            )
        return learners.through_tower(
            backbone,
            classes,
            kind=spec.kind,
            given=given,
            generator=draws,
            prompts=prompts,
            adapter=learner_adapter(spec, backbone.visual.kind),
            flip=flip,
        )
    except ContextTooLong as error:
        raise InputError(str(error)) from error


class RoundTraining:
    """A learner with what it learns from, and SGD."""

    def __init__(
        self, learner: DualLearner, data: RoundSet, spec: LearnerSpec, *, seed: int
    ) -> None:
        self._learner = learner
        self._data = data
        self._spec = spec
        self._mix = {"labeled_batch": spec.labeled_batch, "pseudo_batch": spec.pseudo_batch}
        self._schedule = Schedule(
            epochs=data.num_epochs(spec.epochs, min_steps=spec.min_steps, **self._mix),
            batch_size=spec.pseudo_batch,
            seed=seed,
            stream="active",
        )
        sgd = spec.sgd
        self.optimizer = torch.optim.SGD(
            learner.learned(),
            sgd.learning_rate,
            sgd.momentum,
            weight_decay=sgd.weight_decay,
            fused=True,
        )

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training; 0 without any label."""
        return self._schedule.epochs

    def run(self, epochs: range) -> Iterator[Row]:
        """Minimise the losses of CoFT Eq. 4 to 6 for some epochs; plain learners see no L2."""
        spec = self._spec
        return dual.train(
            self._learner,
            self.optimizer,
            self._data.samples,
            self._schedule,
            epochs=epochs,
            batches=self._data.batches(**self._mix),
            dual_weight=spec.dual.weight,
            gradient_mode=spec.dual.gradient_mode if spec.kind == "dual" else "deft",
        )

    def run_all(self) -> None:
        """Run all epochs."""
        for _ in self.run(range(self.num_epochs)):
            pass
