"""Training on Ray: a worker for each training, epoch by epoch, resumed from the last whole one.

A training is a `Job` (its inputs, and where its files go) and a `Trainer` that is made from it.
Everything else is here: checkpoints, the history, trainings side by side, what follows a crash.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from tasks.compute.calls import Chain, run_chains
from tasks.compute.memory import memory_in_use, peak_memory, release_memory
from tasks.compute.worker import Call, Held
from tasks.progress import Advance, progress, say
from tasks.specs import RuntimeSpec
from tasks.storage.checkpoints import Checkpoints, Row, write_trained
from tasks.storage.manifest import Manifest
from tasks.storage.stage import find_finished, finished


class Job(Protocol):
    """The inputs of a training; a frozen dataclass, so that it reaches any worker."""

    @property
    def folder(self) -> str:
        """Return where its files go."""

    @property
    def digest(self) -> str:
        """Return the digest of what it is made from."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Return what stands in each row of its history beside the epoch: phase, peer."""


@dataclass(frozen=True)
class Result:
    """What a finished training leaves: weights, how to load them, and facts for its manifest."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Trainer(Protocol):
    """A model with its data and its optimizer; `trainer_class(job, device)` makes one.

    It may have `after_epoch(epoch)`, which is called before the checkpoint of that epoch is
    written. What it writes must be the same when it is called again.
    """

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""

    @property
    def optimizer(self) -> Optimizer:
        """Return the optimizer, whose state belongs to a checkpoint."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Return all that training has changed."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""

    def train(self, epochs: range) -> Iterator[Row]:
        """Run some epochs of the whole training; yield the mean of each loss term after each."""

    def result(self) -> Result:
        """Return what the finished training leaves."""


TrainerClass = Callable[[Any, str], Trainer]
OnEpoch = Callable[[Row], None]
PEAK, NUM_PARAMETERS = "peak_bytes", "num_parameters"
"""In the facts of a training: by how much its process grew at most, what the optimizer changes."""


class Training:
    """One training on one device. It starts from its checkpoint, if there is one.

    All three methods are idempotent: when its process dies, another one makes it again from the
    checkpoint and is asked again, so that at most one epoch is computed twice.
    """

    def __init__(self, trainer_class: TrainerClass, job: Job, device: str) -> None:
        self._job = job
        release_memory()
        self._before, self._peak = memory_in_use(), 0
        self._trainer = trainer_class(job, device)
        self._after_epoch = getattr(self._trainer, "after_epoch", None)
        self._checkpoints = Checkpoints(job.folder)
        weights, self._history = self._checkpoints.read(self._trainer.optimizer)
        if weights:
            self._trainer.restore(weights)

    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self._trainer.num_epochs

    def run_epoch(self, epoch: int) -> Row:
        """Train up to an epoch and write its checkpoint, or return what a finished one measured."""
        with peak_memory(self._before) as peak:
            self._run_to(epoch)
        self._peak = max(self._peak, peak[0])
        return self._history[epoch]

    def _run_to(self, epoch: int) -> None:
        for means in self._trainer.train(range(len(self._history), epoch + 1)):
            number = len(self._history)
            if self._after_epoch is not None:
                self._after_epoch(number)
            self._history.append({**self._job.labels, "epoch": number, **means})
            self._checkpoints.write(self._trainer.tensors(), self._trainer.optimizer, self._history)

    def finish(self) -> None:
        """Write the result; the manifest comes last, and only then the checkpoint goes."""
        result = self._trainer.result()
        write_trained(
            self._job.folder,
            self._job.digest,
            result.tensors,
            header=result.header,
            history=self._history,
            facts={**result.facts, **self._cost()},
        )
        self._checkpoints.remove()

    def _cost(self) -> dict[str, int]:
        groups = self._trainer.optimizer.param_groups
        count = sum(value.numel() for group in groups for value in group["params"])
        return {PEAK: self._peak, NUM_PARAMETERS: count if self._history else 0}


def train_here(trainer_class: TrainerClass, job: Job) -> None:
    """Run a whole training in this process, on the CPU, with the same checkpoints."""
    training = Training(trainer_class, job, "cpu")
    for epoch in range(training.num_epochs()):
        training.run_epoch(epoch)
    training.finish()


def train_jobs(
    trainer_class: TrainerClass,
    jobs: Sequence[Job],
    runtime: RuntimeSpec,
    *,
    label: str,
    on_epoch: OnEpoch,
) -> list[tuple[Manifest, bool]]:
    """Train what is not finished, each job in a worker of its own as far as there are some.

    Args:
        trainer_class: Made from (job, device) in the worker.
        jobs: What to train.
        runtime: Where to run.
        label: What the person reads.
        on_epoch: Called in the driver with the row of each epoch.

    Returns:
        For each job its manifest, and whether it was finished before.
    """
    missing = [job for job in jobs if find_finished(job.folder, job.digest) is None]
    if missing:
        with progress(label, 0, unit="epochs") as advance:
            held = [Held(Training, (trainer_class, job)) for job in missing]
            chains = [_train(training, on_epoch, advance) for training in held]
            list(run_chains(chains, runtime))
    else:
        say(f"{label}: finished before")
    return [(finished(job.folder), job not in missing) for job in jobs]


def _train(held: Held, on_epoch: OnEpoch, advance: Advance) -> Chain:
    """Run the epochs of one training, and report them as they end."""
    count = yield Call("num_epochs", held=held)
    advance(0, more=count)
    for epoch in range(count):
        on_epoch((yield Call("run_epoch", (epoch,), held)))
        advance(1)
    yield Call("finish", held=held)
