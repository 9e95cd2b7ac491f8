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


def build(case):
  """The model of a case, which has to have the parameters, names of classes and view of photos that the case says."""
  name, n = str(case["model"]), int(case["params"])
  if case["source"] == "timm":
    model = timm.create_model(name)
  elif not len(case["classes"]):
    model = torchvision.models.get_model(name)
  else:
    model = torchvision.models.get_model(name, weights_backbone=None)
    published = torchvision.models.get_model_weights(name).DEFAULT
    transforms = published.transforms()
    assert [c.strip("_") for c in published.meta["categories"]] == list(case["classes"])
    assert published.meta["num_params"] == n
    assert np.allclose([transforms.mean, transforms.std], [case["mean"], case["std"]])
    assert transforms.interpolation.value == case["interpolation"]
  assert sum(p.numel() for p in model.parameters()) == n, name
  return model


for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  model = build(case)
  state = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w:")}
  counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
  # strict: the names and shapes are all of the source's and no others
  model.load_state_dict({**state, **counters}, strict=True)
  with torch.inference_mode():
    logits = model.eval()(torch.from_numpy(case["images"]).permute(0, 3, 1, 2))
  # of a segmenter a dict of maps
  logits = logits.numpy() if isinstance(logits, torch.Tensor) else logits["out"].permute(0, 2, 3, 1).numpy()
  np.save(path.with_suffix(".logits.npy"), logits)
  print(f"{path.stem}: logits up to {np.abs(logits).max():.2f}, spread over images {logits.std(0).mean():.2f}", flush=True)
