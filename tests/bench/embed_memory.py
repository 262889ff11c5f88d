"""Memory of `coft embed`: the same however many images there are."""

from tests.bench.pipeline import Bench
from tests.bench.rows import Row

FLAT = 1.1


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    few, many = (64, 128) if bench.quick else (2_000, 10_000)
    less, more = bench.small_run(few), bench.small_run(many)
    rows = [
        Row(
            f"memory of the {who}, {many:,} : {few:,} images",
            "MB",
            more.peak_mb(name),
            less.peak_mb(name),
            more.peak_mb(name) / less.peak_mb(name),
            at_most=FLAT,
        )
        for who, name in (("driver", "command"), ("actor", "sweep"))
    ]
    if more.peak_cuda_mb:
        ratio = more.peak_cuda_mb / less.peak_cuda_mb
        name = f"memory of the GPU, {many:,} : {few:,} images"
        rows.append(Row(name, "MB", more.peak_cuda_mb, less.peak_cuda_mb, ratio, at_most=FLAT))
    return rows
