"""Exported weights in the libraries that they are for: run_exported.py DIR ...

Each DIR has the file, images.npy, logits.npy (of the same weights) and usage.json, the lines of Python that export_weights
gives: they are run as they are, and the network that they build has to have the same logits.
"""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np

# as a share of the largest logit
TOLERANCE = 1e-4


def keras_logits(model, images):
  """Logits of a model of Keras, which had loaded the file."""
  return np.asarray(model(images, training=False))


def torch_logits(model, images, file):
  """Outputs of a network of torchvision or timm, whose names have to be those of the file, no more and no fewer."""
  import safetensors.torch
  import torch
  from torch_outputs import outputs_of

  tensors, state = safetensors.torch.load_file(file), model.state_dict()
  assert tensors.keys() == state.keys(), sorted(tensors.keys() ^ state.keys())[:6]
  assert all(torch.equal(tensors[name], state[name]) for name in state)
  with torch.inference_mode():
    return outputs_of(model.eval(), images)


for directory in map(pathlib.Path, sys.argv[1:]):
  usage = json.loads((directory / "usage.json").read_text())
  images, expected = np.load(directory / "images.npy"), np.load(directory / "logits.npy")
  keras = usage["lines"][0] == "import keras"
  if not keras:
    import torch_outputs  # noqa: F401
  scope = {}
  exec("\n".join(usage["lines"]), scope)
  model = scope["model"]
  found = keras_logits(model, images) if keras else torch_logits(model, images, usage["file"])
  difference = np.abs(found - expected).max() / np.abs(expected).max()
  assert found.shape == expected.shape and difference <= TOLERANCE, (directory.name, found.shape, difference)
  print(f"exported {usage['lines'][1]}: difference {difference:.1e}", flush=True)
