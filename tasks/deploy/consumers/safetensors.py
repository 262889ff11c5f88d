"""Classify image files: `python predict.py FILE...`, with open_clip and safetensors."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from open_clip.model import _build_vision_tower
from PIL import Image, ImageOps
from safetensors.torch import load_file

about = json.loads(Path(__file__).with_name("model.json").read_text())
tensors = load_file(Path(__file__).with_name("model.safetensors"))
size, resampling = about["size"], Image.Resampling[about["interpolation"].upper()]
mean, std = (torch.tensor(about[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
members = []
for number in range(about["members"]):
    tower = _build_vision_tower(**about["tower"]).eval().requires_grad_(requires_grad=False)
    visual = f"members.{number}.visual."
    tower.load_state_dict(
        {name[len(visual) :]: value for name, value in tensors.items() if name.startswith(visual)}
    )
    head = (tensors[f"members.{number}.head.{part}"] for part in ("weight", "bias"))
    members.append((tower, *head))
for name in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
    sides = image.size if about["resize_mode"] == "shortest" else (1, 1)
    image = image.resize([int(size * side / min(sides)) for side in sides], resampling)
    left, top = (round((side - size) / 2) for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))[None]
    values = (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2) / 255 - mean) / std
    softmaxes = [
        torch.nn.functional.linear(
            torch.nn.functional.normalize(tower(values), dim=1), weight, bias
        ).softmax(dim=1)
        for tower, weight, bias in members
    ]
    (probabilities,) = torch.stack(softmaxes).mean(dim=0).numpy()
    best = int(probabilities.argmax())
    sys.stdout.write(f"{name}\t{about['classes'][best]}\t{probabilities[best]:.6f}\n")
