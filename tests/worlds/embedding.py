"""A workspace in which images are embedded in this process, and every forward pass is counted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from clipcore.inference import Encoder
from tasks import predict
from tasks.backbone import describe
from tasks.compute import map_parts
from tasks.features import actor, embedding
from tasks.features.actor import EmbedActor, EmbedJob
from tasks.features.embedding import embed
from tasks.features.towers import tower_of
from tasks.label import by_head
from tasks.pool import open as pool_open
from tasks.pool.shards import ID
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef
from tasks.sentences import evidence, pool_senses
from tasks.specs import BackboneSpec, CoftSpec, PoolSpec, RuntimeSpec
from tests.worlds.pools import images_of


def embed_here(
    actor_class: type[EmbedActor],
    job: EmbedJob,
    items: Iterable[tuple[Any, ...]],
    runtime: RuntimeSpec,
    **_: object,
) -> None:
    """Do without Ray what `map_parts` does."""
    worker = actor_class(job, "cpu")
    for item in items:
        worker.write_part(*item)


@dataclass
class Embedding:
    """Images, a workspace and a backbone, and what was done with them.

    Attributes:
        seen: Images of the forward passes of all towers.
        decoded: Ids of all images that somebody tried to decode.
    """

    root: Path
    workspace: str
    backbone: BackboneRef
    seen: int = 0
    decoded: list[str] = field(default_factory=list)

    def images(self, root: Path | str | None = None, **changes: Any) -> ImagesRef:
        runtime = RuntimeSpec(workspace=self.workspace)
        return images_of(root or self.root, runtime, **{"rows_per_shard": 8, **changes})

    def spec(self, **changes: Any) -> CoftSpec:
        return CoftSpec(
            pool=PoolSpec(images=str(self.root), **{"rows_per_shard": 8, **changes}),
            runtime=RuntimeSpec(workspace=self.workspace, batch_size=4),
        )

    def embed(self, images: ImagesRef | None = None, **changes: Any) -> EmbeddingsRef:
        """Embed images, by default those that lie there now."""
        images = images or self.images(**changes)
        tower = tower_of(self.backbone)
        (found,) = embed(images, [tower], self.spec(**changes), label="Embed")
        return found

    def count(self) -> int:
        """Return how many images went through towers since this was asked last."""
        seen, self.seen = self.seen, 0
        return seen


def tasks_here(
    function: Callable[..., Any], items: Sequence[tuple[Any, ...]], **_: object
) -> Iterator[tuple[int, Any]]:
    """Do without Ray what `run_tasks` does."""
    yield from ((number, function(*item)) for number, item in enumerate(items))


def watch(folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Embedding:
    """Return an empty folder of images and an empty workspace; no Ray is needed there."""
    (folder / "images").mkdir()
    backbone = describe(BackboneSpec(name=f"local-dir:{clip}"))
    made = Embedding(folder / "images", str(folder / "workspace"), backbone)
    encoded, batches = actor.encoded, actor.batches

    def counted(encode: Encoder, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        made.seen += len(pixels)
        return encoded(encode, pixels)

    def watched(images: pa.Table, *args: Any, **named: Any) -> Iterator[Any]:
        made.decoded += images[ID].to_pylist()
        yield from batches(images, *args, **named)

    monkeypatch.setattr(actor, "encoded", counted)
    monkeypatch.setattr(actor, "batches", watched)
    monkeypatch.setattr(embedding, "map_parts", embed_here)
    for module in (pool_open, map_parts, predict, by_head, evidence, pool_senses):
        monkeypatch.setattr(module, "run_tasks", tasks_here)
    return made
