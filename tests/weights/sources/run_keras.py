"""Keras's logits: run_keras.py CASE.npz ... writes CASE.logits.npy beside each, and CASE.features.npy."""

import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np


def set_weights(model, case):
  """Sets the weights of a case by their names: Keras calls a depthwise kernel "kernel" too."""
  for layer in model.layers:
    if layer.weights:
      layer.set_weights([case[f"w:{layer.name}/{w.name}"] for w in layer.weights])


for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  name, (height, width) = str(case["model"]), np.broadcast_to(case["resolution"], 2).tolist()
  options = {"minimalistic": bool(case["minimalistic"]), "include_preprocessing": False} if "V3" in name else {}
  build = getattr(keras.applications, name)
  options |= {"alpha": float(case["width"]), "weights": None, "input_shape": (height, width, 3)}
  model = build(classifier_activation=None, **options)
  names = {k[2:].rpartition("/")[0] for k in case.files if k.startswith("w:")}
  assert names == {layer.name for layer in model.layers if layer.weights}
  set_weights(model, case)
  logits = np.asarray(model(case["images"], training=False))
  np.save(path.with_suffix(".logits.npy"), logits)
  print(f"{path.stem}: logits up to {np.abs(logits).max():.2f}, spread over images {logits.std(0).mean():.2f}", flush=True)
  if case["headless"]:
    model = build(include_top=False, pooling="avg", **options)
    set_weights(model, case)
    np.save(path.with_suffix(".features.npy"), np.asarray(model(case["images"], training=False)))
  keras.utils.clear_session()
