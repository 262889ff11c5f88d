"""The peer of embedding: the forward pass of open_clip's model over pixels in memory, and no more.

`python -m tests.bench.bare_loop FOLDER` prints images a second by precision, in a process as people
start it: batch norms and all, the allocator as it comes, batches of 128. bf16 is autocast, where
the device is built for it.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path

import open_clip
import torch
from torch.utils.data import DataLoader

from clipcore import precision
from clipcore.embedded import DEFAULT, path
from tests.bench.dataloader_script import Pictures

MOST_IN_MEMORY = 1024  # decoded images
BATCH = 128


@torch.inference_mode()
def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{path(DEFAULT)}")
    model = model.eval().to(device)
    loader = DataLoader(Pictures(Path(sys.argv[1]), transform), batch_size=BATCH)
    batches = list(islice(loader, MOST_IN_MEMORY // BATCH))

    def run(*, bf16: bool) -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            for batch in batches:
                model.encode_image(batch.to(device)).cpu()
        return sum(map(len, batches)) / (time.perf_counter() - started)

    ways = {"fp32": False} | ({"bf16": True} if precision.has_fast_bf16(device) else {})
    for bf16 in ways.values():
        run(bf16=bf16)  # to warm up
    speeds = {name: run(bf16=bf16) for name, bf16 in ways.items()}
    sys.stdout.write(json.dumps(speeds) + "\n")


if __name__ == "__main__":
    main()
