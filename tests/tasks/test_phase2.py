"""A network of Phase II as a trainer: where it starts, what it leaves for the guard."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clipcore.inference import Encoder
from tasks.backbone import load_backbone
from tasks.compute.epochs import train_here
from tasks.phase2 import NetworkTrainer, start_network
from tasks.storage.checkpoints import read_history, read_tensors
from tasks.storage.layout import EPOCH_WEIGHTS, HELD_OUT_LOGITS
from tasks.weights import read_dual_head
from tests.worlds.peers import NetworkJobs
from tests.worlds.tensors import random_pixels, same

Jobs = Callable[..., NetworkJobs]


@pytest.mark.parametrize("start", ["phase1", "original"])
def test_a_network_starts_as_its_peer_or_as_clip(network_jobs: Jobs, start: str) -> None:
    job = network_jobs(start=start).job
    network = start_network(job, device="cpu")
    backbone = load_backbone(job.backbone.name)
    pixels = random_pixels(4, network.visual.preprocess.size)
    head = read_dual_head(job.start.uri).positive
    with torch.inference_mode():
        features = network.visual(pixels)
        torch.testing.assert_close(network(pixels), head.logits(features))
        changed = not torch.allclose(features, backbone.visual(pixels), atol=1e-4)
    assert changed == (start == "phase1")


def test_each_epoch_leaves_its_weights_and_what_each_mix_says_of_held_out_images(
    network_jobs: Jobs,
) -> None:
    jobs = network_jobs(holdout_every=3)
    job = jobs.job
    train_here(NetworkTrainer, job)
    start, header = read_tensors(job.folder)
    assert header["images"] == jobs.held_out
    assert len(jobs.held_out) > 0
    history = read_history(job.folder)
    assert [(row["phase"], row["epoch"]) for row in history] == [(2, 0), (2, 1)]
    network = start_network(job, device="cpu")
    assert same(start, network.state_dict())
    pixels = jobs.held_out_pixels(network.visual.preprocess)
    for epoch in range(2):
        end, _ = read_tensors(job.folder, EPOCH_WEIGHTS.format(epoch))
        logits, _ = read_tensors(job.folder, HELD_OUT_LOGITS.format(epoch))
        alphas = (0.5, 1.0) if epoch else (0.0, 0.5, 1.0)  # Phase I is the same after each
        assert set(logits) == set(map(str, alphas))
        assert not same(start, end)
        for alpha in alphas:
            mixed = {
                name: (1 - alpha) * start[name] + alpha * value
                if value.is_floating_point()
                else value
                for name, value in end.items()
            }
            network.load_state_dict(mixed)
            with torch.inference_mode():  # in the type in which a tower is quick on this machine
                expected = network.eval().logits(Encoder(network.visual)(pixels))
            torch.testing.assert_close(logits[str(alpha)], expected, atol=1e-4, rtol=1e-4)


def test_looking_at_held_out_images_does_not_change_the_training(network_jobs: Jobs) -> None:
    """The guard's mixes are tried on the network that trains; it goes on from its own weights."""
    one = network_jobs(holdout_every=3, alphas=(1.0, 0.0))
    two = network_jobs(holdout_every=3, alphas=(1.0,))
    for jobs in (one, two):
        train_here(NetworkTrainer, jobs.job)
    last = EPOCH_WEIGHTS.format(1)
    assert same(read_tensors(one.job.folder, last)[0], read_tensors(two.job.folder, last)[0])


def test_nothing_held_out_leaves_no_logits(network_jobs: Jobs) -> None:
    jobs = network_jobs(holdout_every=None)
    train_here(NetworkTrainer, jobs.job)
    logits, _ = read_tensors(jobs.job.folder, HELD_OUT_LOGITS.format(0))
    assert logits["1.0"].shape == (0, 3)


def test_without_an_epoch_a_network_is_its_peer_and_the_guard_knows_what_that_says(
    network_jobs: Jobs,
) -> None:
    jobs = network_jobs(holdout_every=3)
    job = replace(jobs.job, spec=jobs.job.spec.model_copy(update={"epochs": 0}))
    train_here(NetworkTrainer, job)
    network = start_network(job, device="cpu")
    assert same(read_tensors(job.folder)[0], network.state_dict())
    logits, _ = read_tensors(job.folder, HELD_OUT_LOGITS.format(0))
    pixels = jobs.held_out_pixels(network.visual.preprocess)
    with torch.inference_mode():
        expected = network.eval().logits(Encoder(network.visual)(pixels))
    torch.testing.assert_close(logits["0.0"], expected, atol=1e-4, rtol=1e-4)
    assert read_history(job.folder) == []


def test_the_folder_is_whole_before_its_checkpoint_goes(network_jobs: Jobs, tmp_path: Path) -> None:
    job = network_jobs().job
    train_here(NetworkTrainer, job)
    names = {path.name for path in Path(job.folder).iterdir()}
    assert {"manifest.json", "weights.safetensors", "history.json"} <= names
    assert "resume.safetensors" not in names
