"""The peer of `coft embed`: how people embed a folder of images with open_clip and a DataLoader.

`python -m tests.bench.dataloader_script FOLDER` prints {"images", "seconds"}; the
seconds are those of the loop alone. fp32, two workers, open_clip's own transform.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipcore.embedded import DEFAULT, path


class Pictures(Dataset[Tensor]):
    def __init__(self, folder: Path, transform: object) -> None:
        self.paths = sorted(folder.iterdir())
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        return self.transform(Image.open(self.paths[place]).convert("RGB"))  # type: ignore[operator, no-any-return]


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{path(DEFAULT)}")
    model = model.eval().to(device)
    dataset = Pictures(Path(sys.argv[1]), transform)
    loader = DataLoader(dataset, batch_size=128, num_workers=2)
    started = time.perf_counter()
    features = []
    with torch.no_grad():
        for batch in loader:
            encoded = model.encode_image(batch.to(device))
            encoded = encoded / encoded.norm(dim=-1, keepdim=True)
            features.append(encoded.cpu().numpy())
    count = len(np.concatenate(features))
    seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"images": count, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
