"""Files that Keras really writes, read by this project: files_keras.py CASE.npz ... (needs the project on PYTHONPATH)."""

import os
import pathlib
import sys
import tempfile
import warnings

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from mnv3_jax.weights import formats, sources


def same(one, other):
  """Whether two trees of arrays are equal to the bit."""
  if isinstance(one, dict):
    return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
  return one.dtype == other.dtype and np.array_equal(one, other)


def read_again(model, name, folder, fields):
  """Yields (form, variables) of a model that Keras saved in each of its forms."""
  for form in ("a.weights.h5", "b.keras", "c.h5"):
    (model.save_weights if "weights" in form else model.save)(folder / form)
    yield form, sources.variables("keras", name, formats.read(folder / form), form, **fields)[2]
    (folder / form).unlink()


def main(files):
  """Every form of Keras file, with the names of every network."""
  folder = pathlib.Path(tempfile.mkdtemp())
  warnings.simplefilter("ignore")
  for file in files:
    case = np.load(file)
    name = str(case["model"])
    fields = {"width": float(case["width"])} if case["width"] != 1 else {}
    options = {}
    if "V3" in name:
      options = {"minimalistic": bool(case["minimalistic"])}
      fields |= {k: v for k, v in options.items() if v}
    build = getattr(keras.applications, name)
    model = build(weights=None, alpha=float(case["width"]), input_shape=(64, 64, 3), **options)
    for layer in model.layers:
      if layer.weights:
        layer.set_weights([case[f"w:{layer.name}/{w.name}"] for w in layer.weights])
    expected = None
    for form, found in read_again(model, name, folder, fields):
      expected = expected or found
      assert same(found, expected), (file, form)
    # without the classification head
    model = build(weights=None, include_top=False, alpha=float(case["width"]), input_shape=(64, 64, 3), **options)
    for layer in model.layers:
      if layer.weights:
        layer.set_weights([case[f"w:{layer.name}/{w.name}"] for w in layer.weights])
    backbone = {kind: {"backbone": rows["backbone"]} for kind, rows in expected.items()}
    for form, found in read_again(model, name, folder, fields):
      assert same(found, backbone), (file, form, "include_top=False")
    kernel = found["params"]["backbone"]["stem"]["kernel"]
    stem = next(k for k in case.files if k.startswith("w:") and case[k].ndim == 4)
    np.testing.assert_array_equal(kernel, case[stem])
    print(f"keras {name} {fields or ''}: 3 forms, with and without the top", flush=True)
    keras.utils.clear_session()


if __name__ == "__main__":
  main(sys.argv[1:])
