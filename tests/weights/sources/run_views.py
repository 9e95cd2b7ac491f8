"""What torchvision's transforms make of a photo: run_views.py PHOTO VIEWS.json OUT.npz (a grid of each)."""

import json
import sys

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms import InterpolationMode, functional  # noqa: E402

photo, views, out = sys.argv[1:]
image = Image.open(photo).convert("RGB")
found = {}
# the view of a segmenter is not cropped
weights = torchvision.models.get_model_weights("lraspp_mobilenet_v3_large").DEFAULT
found["whole"] = weights.transforms()(image).permute(1, 2, 0).numpy()[::32, ::32]
for name, view in json.load(open(views)).items():
  resized = functional.resize(image, int(224 / view["crop"] + 1e-6), InterpolationMode(view["interpolation"]))
  x = functional.to_tensor(functional.center_crop(resized, 224))
  found[name] = functional.normalize(x, view["mean"], view["std"]).permute(1, 2, 0).numpy()[::16, ::16]
np.savez(out, **found)
print(f"{len(found)} views", flush=True)
