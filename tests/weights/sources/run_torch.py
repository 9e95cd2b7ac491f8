"""torchvision's and timm's logits: run_torch.py CASE.npz ... writes CASE.logits.npy beside each, and CASE.features.npy."""

import pathlib
import sys

import numpy as np
import torch
from torch_outputs import outputs_of  # before torchvision

import timm  # isort: skip
import torchvision  # isort: skip


def build(case):
  """The model of a case, which has to have the parameters, names of classes and view of photos that the case says."""
  name, n = str(case["model"]), int(case["params"])
  if case["source"] == "timm":
    model = timm.create_model(name)
  elif not len(case["classes"]):
    model = torchvision.models.get_model(name)
  elif name.startswith("ssdlite"):
    model = build_detector(name, case)
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


def outputs_and_madds(model, images):
  """What the model computes of images, and the multiply-adds of its convolutions and fully connected layers for one image."""
  found = []

  def count(module, inputs, output):
    found.append(module.weight[0].numel() * output[0].numel())

  layers = [layer for layer in model.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
  hooks = [layer.register_forward_hook(count) for layer in layers]
  outputs = outputs_of(model, images)
  for hook in hooks:
    hook.remove()
  return outputs, sum(found)


def features(case, state):
  """What timm computes without its classifier, given the state of the whole network."""
  model = timm.create_model(str(case["model"]), num_classes=0)
  model.load_state_dict({name: state[name] for name in model.state_dict()}, strict=True)
  return outputs_of(model.eval(), case["images"])


def build_detector(name, case):
  """torchvision's detector; its full tail is that of a backbone with ImageNet's weights, which need not be downloaded."""
  name, _, tail = name.partition(".")
  from torchvision.models.detection import ssdlite

  def full(**options):
    return torchvision.models.mobilenet_v3_large(**{**options, "reduced_tail": False})

  build_backbone, ssdlite.mobilenet_v3_large = ssdlite.mobilenet_v3_large, full if tail else ssdlite.mobilenet_v3_large
  model = torchvision.models.get_model(name, weights_backbone=None)
  ssdlite.mobilenet_v3_large = build_backbone
  published = torchvision.models.get_model_weights(name).DEFAULT
  categories, ours = published.meta["categories"], ["__background__", *case["classes"]]
  # ids without annotations have no names there
  assert all(theirs in (known, "N/A") for theirs, known in zip(categories, ours, strict=True))
  assert tail or published.meta["num_params"] == int(case["params"])
  assert np.allclose([model.transform.image_mean, model.transform.image_std], [case["mean"], case["std"]])
  assert tuple(model.transform.fixed_size) == (int(case["resolution"]),) * 2
  return model


for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  model = build(case)
  state = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w:")}
  counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
  # strict: the names and shapes are all of the source's and no others
  model.load_state_dict({**state, **counters}, strict=True)
  if case["headless"]:
    with torch.inference_mode():
      np.save(path.with_suffix(".features.npy"), features(case, {**state, **counters}))
  with torch.inference_mode():
    logits, madds = outputs_and_madds(model.eval(), case["images"])
  assert case["source"] != "timm" or madds == int(case["madds"]), (path.stem, madds, int(case["madds"]))
  np.save(path.with_suffix(".logits.npy"), logits)
  print(f"{path.stem}: logits up to {np.abs(logits).max():.2f}, spread over images {logits.std(0).mean():.2f}", flush=True)
