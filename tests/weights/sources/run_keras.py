"""Keras's logits: run_keras.py CASE.npz ... writes CASE.logits.npy beside each."""

import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  name, (height, width) = str(case["model"]), np.broadcast_to(case["resolution"], 2).tolist()
  options = {"minimalistic": bool(case["minimalistic"]), "include_preprocessing": False} if "V3" in name else {}
  build = getattr(keras.applications, name)
  options |= {"alpha": float(case["width"]), "classifier_activation": None}
  model = build(weights=None, input_shape=(height, width, 3), **options)
  names = {k[2:].rpartition("/")[0] for k in case.files if k.startswith("w:")}
  assert names == {layer.name for layer in model.layers if layer.weights}
  for layer in model.layers:
    if layer.weights:
      # by name: Keras calls a depthwise kernel "kernel" too
      layer.set_weights([case[f"w:{layer.name}/{w.name}"] for w in layer.weights])
  logits = np.asarray(model(case["images"], training=False))
  np.save(path.with_suffix(".logits.npy"), logits)
  print(f"{path.stem}: logits up to {np.abs(logits).max():.2f}, spread over images {logits.std(0).mean():.2f}", flush=True)
  keras.utils.clear_session()
