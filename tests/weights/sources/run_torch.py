"""torchvision's and timm's logits: run_torch.py CASE.npz ... writes CASE.logits.npy beside each."""

import pathlib
import sys

import numpy as np
import torch

# the operators that torchvision's own build would register; its networks do without them, its import does not
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  name = str(case["model"])
  model = timm.create_model(name) if case["source"] == "timm" else torchvision.models.get_model(name)
  state = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w:")}
  counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
  # strict: the names and shapes are all of the source's and no others
  model.load_state_dict({**state, **counters}, strict=True)
  with torch.inference_mode():
    logits = model.eval()(torch.from_numpy(case["images"]).permute(0, 3, 1, 2)).numpy()
  np.save(path.with_suffix(".logits.npy"), logits)
  print(f"{path.stem}: logits up to {np.abs(logits).max():.2f}, spread over images {logits.std(0).mean():.2f}", flush=True)
