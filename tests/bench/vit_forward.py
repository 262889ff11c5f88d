"""Forward passes of a ViT-B/16 in this process: as coft's actor makes them, and bare."""

import torch
from torch import Tensor

from clipcore import precision
from clipcore.backbone import VisualTower
from tasks.backbone import load_backbone
from tasks.features.actor import EmbedActor
from tasks.specs import BackboneSpec
from tests.bench.measure import interleaved
from tests.bench.pipeline import Bench, actor_here
from tests.bench.rows import Row
from tests.bench.vit import bare_loop, rate, write_vit

BATCH, BATCHES = 256, 8


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    name = write_vit(bench.folder / "vit", quick=bench.quick)
    actor = actor_here(bench, bench.folder / "features", backbone=BackboneSpec(name=name))
    bare, autocast = (load_backbone(name, device=str(bench.device)).visual for _ in range(2))
    batch, batches = (8, 2) if bench.quick else (BATCH, BATCHES)
    pixels = actor.pixels.new_batch(batch).random_(0, 256)
    speed = interleaved(
        {
            "bf16 weights": bare_loop(bare, batch=batch, batches=batches),
            "fp32 weights under autocast": lambda: rate(
                lambda x: _under_autocast(autocast, x), pixels.to(bench.device), batches=batches
            ),
            "the actor's encode": lambda: rate(
                lambda x: _as_actor(actor, x), pixels, batches=batches
            ),
        },
        rounds=3,
    )
    return _rows(bench, speed, batch)


def _rows(bench: Bench, speed: dict[str, float], batch: int) -> list[Row]:
    peer = speed.pop("bf16 weights")
    notes = {
        "the actor's encode": "uint8 in host memory to features on the device",
        "fp32 weights under autocast": "uint8 on the device",
    }
    rows = [
        Row(f"{who} : bare bf16 loop", "images/s", ours, peer, ours / peer, note=notes[who])
        for who, ours in speed.items()
    ]
    if bench.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        rows.append(Row("peak GPU memory of forward passes", "GiB", peak, note=f"batch {batch}"))
    return rows


def _under_autocast(tower: VisualTower, pixels: Tensor) -> Tensor:
    with precision.mixed(tower.mean.device, training=False):
        features: Tensor = tower(pixels)
    return features


def _as_actor(actor: EmbedActor, pixels: Tensor) -> None:
    actor.batch_size.run(lambda x: (actor.encoders[0](x),), pixels)
