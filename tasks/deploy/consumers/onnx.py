"""Classify image files: `python predict.py FILE...`, with numpy, Pillow and onnxruntime alone."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

about = json.loads(Path(__file__).with_name("model.json").read_text())
model = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
size, resampling = about["size"], Image.Resampling[about["interpolation"].upper()]
for name in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
    sides = image.size if about["resize_mode"] == "shortest" else (1, 1)
    image = image.resize([int(size * side / min(sides)) for side in sides], resampling)
    left, top = (round((side - size) / 2) for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))[None]
    (probabilities,) = model.run(None, {"pixels": pixels})[0]
    best = int(probabilities.argmax())
    sys.stdout.write(f"{name}\t{about['classes'][best]}\t{probabilities[best]:.6f}\n")
