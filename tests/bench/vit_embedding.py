"""`coft embed` with a ViT-B/16, its workers up, against the bare bf16 loop of the same tower."""

from tasks.backbone import load_backbone
from tests.bench.measure import interleaved
from tests.bench.pipeline import Bench, EmbedRun
from tests.bench.rows import Row
from tests.bench.vit import bare_loop, write_vit

BATCH, BATCHES = 256, 8


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    name = write_vit(bench.folder / "vit", quick=bench.quick)
    pictures, what = bench.labelled
    run = bench.embed(pictures, backbone=name)
    tower = load_backbone(name, device=str(bench.device)).visual
    batch, batches = (8, 2) if bench.quick else (BATCH, BATCHES)
    loop = bare_loop(tower, batch=batch, batches=batches)
    speed = interleaved({"bare bf16 loop": loop}, rounds=3)
    return _rows(run, speed["bare bf16 loop"], f"{run.num_images:,} of {what}")


def _rows(run: EmbedRun, bare: float, what: str) -> list[Row]:
    busy = run.at_work("sweep")
    ours, command = run.num_images / busy, run.num_images / run.wall
    rows = [
        Row(
            "embedding stage, workers up : bare bf16 loop",
            "images/s",
            ours,
            bare,
            ours / bare,
            at_least=0.6,
            note=f"{what}; {busy:.1f} s from the first shard's begin to the last one's end",
        ),
        Row(
            "coft embed, whole command : bare bf16 loop",
            "images/s",
            command,
            bare,
            command / bare,
            note=f"{run.start:.1f} of {run.wall:.1f} s start and end Python, Prefect and Ray",
        ),
        Row("memory of the embedding actor", "GiB", run.peak_mb("sweep") / 2**10),
    ]
    if run.peak_cuda_mb:
        rows.append(Row("peak GPU memory of the embedding actor", "GiB", run.peak_cuda_mb / 2**10))
    return rows
