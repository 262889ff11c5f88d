"""Training by epochs: resumed after the last whole one, whenever its process dies."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tasks.compute.epochs import Result, Training, train_here, train_jobs
from tasks.specs import RuntimeSpec
from tasks.storage.checkpoints import Row, read_history, read_tensors
from tasks.storage.digests import ShardMismatch
from tasks.storage.layout import RESUME
from tasks.storage.manifest import read_manifest

EPOCHS = 4


@dataclass(frozen=True)
class Job:
    """A training of one number, which may be told when to die."""

    folder: str
    digest: str = "feedfeedfeedfeed"
    peer: int = 1
    dies_in: str = ""  # "train", "hook" or "checkpoint" of epoch 2, once

    @property
    def labels(self) -> dict[str, int]:
        return {"peer": self.peer}

    def note(self, what: str) -> None:
        Path(self.folder).parent.mkdir(exist_ok=True)
        with (Path(self.folder).parent / f"log-{self.peer}").open("a") as log:
            log.write(f"{what}\n")

    def log(self) -> list[str]:
        return (Path(self.folder).parent / f"log-{self.peer}").read_text().split()

    def die_once(self, where: str, epoch: int) -> None:
        """Kill this process at a place in epoch 2, the first time that it gets there."""
        mark = Path(self.folder).parent / f"died-{self.peer}"
        if where == self.dies_in and epoch == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def make_trainer() -> type:
    """Return the class of a trainer; local, so that workers get it by value."""

    class NumberTrainer:
        """Pulls one number to zero by momentum, so that a lost optimizer state would show."""

        def __init__(self, job: Job, device: str) -> None:
            assert device == "cpu"
            self.job = job
            self.weight = torch.nn.Parameter(torch.tensor([float(job.peer)]))
            self.optimizer = torch.optim.SGD([self.weight], lr=0.1, momentum=0.9)
            self.num_epochs = EPOCHS

        def tensors(self) -> dict[str, Tensor]:
            return {"weight": self.weight.detach().clone()}

        def restore(self, tensors: dict[str, Tensor]) -> None:
            with torch.no_grad():
                self.weight.copy_(tensors["weight"])

        def train(self, epochs: range) -> Iterator[Row]:
            for epoch in epochs:
                self.job.note(f"train-{epoch}")
                loss = self.weight.square().sum()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.job.die_once("train", epoch)
                yield {"loss": loss.item(), "seconds": 1.0}

        def after_epoch(self, epoch: int) -> None:
            self.job.note(f"hook-{epoch}")
            self.job.die_once("hook", epoch)

        def result(self) -> Result:
            return Result(self.tensors(), {"how": "by value"}, {"peer": self.job.peer})

    return NumberTrainer


def outcome(job: Job) -> tuple[dict[str, Tensor], list[Row]]:
    return read_tensors(job.folder)[0], read_history(job.folder)


def whole(folder: Path, peer: int = 1) -> tuple[dict[str, Tensor], list[Row]]:
    """Return what a training without any accident arrives at."""
    job = Job(str(folder / "whole"), peer=peer)
    train_here(make_trainer(), job)
    return outcome(job)


def test_a_training_leaves_weights_history_and_a_manifest(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "job"))
    train_here(make_trainer(), job)
    tensors, header = read_tensors(job.folder)
    assert header == {"how": "by value", "digest": job.digest}
    assert tensors["weight"].item() < 1
    history = read_history(job.folder)
    assert [row["epoch"] for row in history] == list(range(EPOCHS))
    assert all(row["peer"] == 1 for row in history)
    manifest = read_manifest(job.folder)
    assert manifest is not None
    peak = manifest.facts["peak_bytes"]
    assert isinstance(peak, int)
    assert manifest.facts == {"epochs": EPOCHS, "peer": 1, "num_parameters": 1, "peak_bytes": peak}
    assert manifest.seconds == EPOCHS
    assert not (tmp_path / "job" / RESUME).exists()
    assert job.log() == [f"{what}-{n}" for n in range(EPOCHS) for what in ("train", "hook")]


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    expected = whole(tmp_path / "other")
    job = Job(str(tmp_path / "job"))
    first = Training(make_trainer(), job, "cpu")
    row = first.run_epoch(1)
    assert row["epoch"] == 1
    second = Training(make_trainer(), job, "cpu")
    assert second.run_epoch(1) == row, "a finished epoch is not computed again"
    assert second.run_epoch(0)["epoch"] == 0
    second.run_epoch(EPOCHS - 1)
    second.finish()
    assert outcome(job)[0]["weight"].equal(expected[0]["weight"])
    assert outcome(job)[1] == expected[1]
    assert job.log().count("train-1") == 1


@pytest.mark.parametrize("where", ["train", "hook", "checkpoint"])
def test_a_killed_worker_computes_at_most_one_epoch_twice(
    where: str, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it trains, in its hook, or between the checkpoint and the answer."""
    expected = whole(tmp_path / "other")
    job = Job(str(tmp_path / "job"), dies_in=where)
    trainer = make_trainer()
    if where == "checkpoint":
        trainer = dying_after_checkpoint(trainer)
    rows: list[Row] = []
    train_jobs(trainer, [job], RuntimeSpec(), label="Train", on_epoch=rows.append)
    assert (tmp_path / "died-1").exists()
    assert outcome(job)[0]["weight"].equal(expected[0]["weight"])
    assert outcome(job)[1] == expected[1] == rows
    trained = [line for line in job.log() if line.startswith("train")]
    assert len(trained) == EPOCHS + (where != "checkpoint")
    assert set(trained) == {f"train-{n}" for n in range(EPOCHS)}


def dying_after_checkpoint(trainer: type) -> type:
    """Make a trainer whose process dies when the checkpoint of epoch 2 has reached the disk."""

    class Dying(trainer):  # type: ignore[misc]
        def train(self, epochs: range) -> Iterator[Row]:
            for row in super().train(epochs):
                yield row
                # Resumed when the worker has written the checkpoint and asks for the next epoch.
                self.job.die_once("checkpoint", len(self.job.log()) // 2 - 1)

    return Dying


def test_jobs_side_by_side_are_finished_once(tmp_path: Path, ray_session: None) -> None:
    jobs = [Job(str(tmp_path / f"job-{peer}"), peer=peer) for peer in (1, 2)]
    train_here(make_trainer(), jobs[0])
    rows: list[Row] = []
    trained = train_jobs(make_trainer(), jobs, RuntimeSpec(), label="Train", on_epoch=rows.append)
    assert [resumed for _, resumed in trained] == [True, False]
    assert [row["peer"] for row in rows] == [2] * EPOCHS
    again = train_jobs(make_trainer(), jobs, RuntimeSpec(), label="Train", on_epoch=rows.append)
    assert [resumed for _, resumed in again] == [True, True]
    assert len(rows) == EPOCHS
    assert [manifest.facts["peer"] for manifest, _ in again] == [1, 2]


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "job"))
    train_here(make_trainer(), job)
    other = Job(job.folder, digest="0000000000000000")
    with pytest.raises(ShardMismatch, match=job.digest):
        train_jobs(make_trainer(), [other], RuntimeSpec(), label="Train", on_epoch=lambda _: None)
