"""A peer that was really trained for two steps, and jobs of Phase II that start from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore.images import Preprocess, read_pixels
from tasks.backbone import describe
from tasks.compute.epochs import train_here
from tasks.label.table import labels_table
from tasks.phase1 import PeerJob, PeerTrainer
from tasks.phase2 import NetworkJob
from tasks.refs import ImagesRef, LabelsRef, PeerRef, Reason, TaskRef
from tasks.specs import AdapterSpec, BackboneSpec, Phase1Spec, Phase2Spec, PoolSpec, PromptSpec
from tasks.storage.digests import content_id
from tests.worlds.images import encoded_image
from tests.worlds.stages import stage

CLASSES = ("ant", "bee", "cat")
COUNT = 12
PHASE1 = Phase1Spec(
    epochs=2,
    min_steps=0,
    batch_size=8,
    prompts=PromptSpec(num_context_tokens=2),
    adapter=AdapterSpec(num_visual_prompts=2),
)


@dataclass(frozen=True)
class NetworkJobs:
    """A job of Phase II, and the images that it holds out."""

    job: NetworkJob
    held_out: list[str]
    files: dict[str, Path]

    def held_out_pixels(self, preprocess: Preprocess) -> Tensor:
        """Return uint8 pixels of the held-out images, in the job's order."""
        data = [self.files[image].read_bytes() for image in self.held_out]
        pixels = [read_pixels(content, preprocess, max_pixels=10_000) for content in data]
        return torch.from_numpy(np.stack(pixels))


def write_images(folder: Path) -> tuple[ImagesRef, TaskRef, dict[str, Path]]:
    """Write images of noise, in one part, and the classes that they are sorted into."""
    folder.mkdir(parents=True)
    files = {}
    for number in range(COUNT):
        path, data = folder / f"{number}.png", encoded_image(number)
        path.write_bytes(data)
        files[content_id(data)] = path
    files = dict(sorted(files.items()))
    rows = [
        {"image_id": image, "uri": str(path), "split": "pool", "duplicate_of": None}
        for image, path in files.items()
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    images = ImagesRef(
        uri=stage(folder / "pool", [pa.Table.from_pylist(rows, schema)]),
        digest="images",
        num_pool=COUNT,
        num_test=0,
        num_duplicates=0,
        num_quarantined=0,
    )
    task = TaskRef(uri=stage(folder / "task", []), digest="task", classes=CLASSES, labeled=False)
    return images, task, files


def write_labels(folder: Path, ids: list[str], holdout_every: int | None) -> LabelsRef:
    """Write labels of all images; every so many are held out, the others kept."""
    numbers = torch.arange(len(ids)) % len(CLASSES)
    out = np.array([bool(holdout_every) and n % (holdout_every or 1) == 0 for n in range(len(ids))])
    table = labels_table(
        pa.array(ids, pa.string()),
        "peer-1",
        numbers,
        torch.full((len(ids),), 0.9),
        classes=CLASSES,
        kept=~out,
        reasons=[Reason.HELD_OUT if is_out else Reason.KEPT for is_out in out],
    )
    return LabelsRef(uri=stage(folder, [table]), digest="labels", source="peer-1")


def make_network_jobs(
    folder: Path,
    clip: Path,
    *,
    start: str = "phase1",
    holdout_every: int | None = 4,
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0),
) -> NetworkJobs:
    """Train a peer, and return a job of Phase II that starts from it."""
    images, task, files = write_images(folder / "images")
    ids = list(files)
    backbone = describe(BackboneSpec(name=f"local-dir:{clip}"))
    shared = {"peer": 1, "backbone": backbone, "images": images, "task": task}
    shared |= {"seed": 0, "flip": True}
    peer = PeerRef(uri=str(folder / "peer"), digest="peer", peer=1, phase=1)
    confident = write_labels(folder / "confident", ids, None)
    job = PeerJob(
        folder=peer.uri,
        digest=peer.digest,
        confident=confident,
        spec=PHASE1,
        limits=PoolSpec(images="", max_pixels=10_000),
        **shared,
    )
    train_here(PeerTrainer, job)
    network = NetworkJob(
        folder=str(folder / "network"),
        digest="network",
        clean=write_labels(folder / "clean", ids, holdout_every),
        start=peer,
        spec=Phase2Spec.model_validate(
            {"start": start, "epochs": 2, "batch_size": 4, "wise_alphas": alphas}
        ),
        limits=PoolSpec(images="", max_pixels=10_000),
        batch_size=3,
        **shared,
    )
    held_out = [image for n, image in enumerate(ids) if holdout_every and n % holdout_every == 0]
    return NetworkJobs(network, held_out, files)
