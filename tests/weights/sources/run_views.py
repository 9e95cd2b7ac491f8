"""What torchvision's transforms make of a photo: run_views.py PHOTO VIEWS.json OUT.npz (a 16-pixel grid of each)."""

import json
import sys

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image  # noqa: E402
from torchvision.transforms import InterpolationMode, functional  # noqa: E402

photo, views, out = sys.argv[1:]
image = Image.open(photo).convert("RGB")
found = {}
for name, view in json.load(open(views)).items():
  resized = functional.resize(image, int(224 / view["crop"] + 1e-6), InterpolationMode(view["interpolation"]))
  x = functional.to_tensor(functional.center_crop(resized, 224))
  found[name] = functional.normalize(x, view["mean"], view["std"]).permute(1, 2, 0).numpy()[::16, ::16]
np.savez(out, **found)
print(f"{len(found)} views", flush=True)
