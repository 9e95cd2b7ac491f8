"""torchvision's own view and logits of a photo, by weights that are in its cache: run_published.py WEIGHTS PHOTO OUT.npz."""

import sys

import numpy as np
import torch
from PIL import Image
from torch_outputs import outputs_of  # before torchvision

import torchvision  # isort: skip

name, photo, out = sys.argv[1:]
weights = torchvision.models.get_weight(name)
network = name.partition("_Weights.")[0].lower()
model = torchvision.models.get_model(network, weights=weights).eval()
view = weights.transforms()(Image.open(photo)).permute(1, 2, 0).numpy()[None]
with torch.inference_mode():
  np.savez(out, view=view, logits=outputs_of(model, view), classes=weights.meta["categories"])
