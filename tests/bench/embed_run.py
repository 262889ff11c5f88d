"""`coft embed` in a process of its own, which leaves a mark whenever work begins and ends.

Started by `pipeline.coft_embed`: `python -m tests.bench.embed_run MARKS embed --images ...`. The
command, the flow and the actors are coft's own; each is only looked at from outside.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from infra import offline
from tests.bench.measure import peak_rss_mb


def mark(folder: str, name: str, begun: float, **more: float) -> None:
    """Note a span of time that ends now, and this process's peak memory."""
    line = {"name": name, "begun": begun, "ended": time.time(), "peak_mb": peak_rss_mb(), **more}
    with (Path(folder) / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


class WatchedActor:
    """coft's EmbedActor, and a mark for each shard that it embeds."""

    folder = ""

    def __init__(self, job: Any, device: str) -> None:
        from tasks.features.actor import EmbedActor

        self.actor = EmbedActor(job, device)

    def write_part(self, *shards: Any) -> int:
        """Embed some shards."""
        import torch

        begun = time.time()
        images = self.actor.write_part(*shards)
        cuda_mb = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
        mark(self.folder, "sweep", begun, images=images, cuda_mb=cuda_mb)
        return images


def main() -> None:
    """Run the command line that follows the folder of marks."""
    begun = time.time()
    folder, *words = sys.argv[1:]
    offline.apply()  # before what follows loads Prefect and Ray
    from flows import cli
    from tasks.compute import calls, cluster, map_parts, workers
    from tasks.features import embedding
    from tasks.pool import open as pool_open

    ensure_ray, run_on_held = cluster.ensure_ray, calls.run_on_held

    def watched_scan(job: Any) -> Any:
        from tasks.pool.scan import scan_images

        scan_begun = time.time()
        scanned = scan_images(job)
        mark(folder, "scan", scan_begun)
        return scanned

    def watched_ray(runtime: Any) -> None:
        ray_begun = time.time()
        ensure_ray(runtime)
        mark(folder, "ray", ray_begun)

    def watched_run(*given: Any, **named: Any) -> Any:
        mark(folder, "actors asked for", time.time())
        return run_on_held(*given, **named)

    WatchedActor.folder = folder
    with (
        patch.object(embedding, "EmbedActor", WatchedActor),
        patch.object(pool_open, "scan_images", watched_scan),
        patch.object(workers, "ensure_ray", watched_ray),
        patch.object(map_parts, "run_on_held", watched_run),
        patch.object(sys, "argv", ["coft", *words]),
    ):
        try:
            cli.main()
        finally:
            mark(folder, "command", begun)


if __name__ == "__main__":
    main()
