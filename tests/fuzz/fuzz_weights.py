"""Fuzz target: weight files, as import reads them; the word after seed and seconds is their format."""

import collections
import io
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback
import zipfile

import h5py
import numpy as np
from fuzzing import mutated_bytes
from safetensors.numpy import save

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "weights"))
import graphs
import seeds
from peak_memory import peak_megabytes

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats, sources

# of the process with JAX, and a file may declare 0.5 GiB; of one file
MEGABYTES, SECONDS = 1500, 20.0
NETWORKS = {
  "timm": ("mobilenetv3_small_050", {}),
  "keras": ("MobileNet", {"width": 0.25}),
  "tf_object_detection": ("ssdlite_mobilenet_v1_0.25", {"num_classes": 1}),
}


def npz(tensors, compressed):
  """A file of np.savez."""
  file = io.BytesIO()
  (np.savez_compressed if compressed else np.savez)(file, **tensors)
  return file.getvalue()


def hdf5(tensors, legacy):
  """A file of Keras 2, or of Keras 3."""
  layers = collections.defaultdict(list)
  for name, a in tensors.items():
    layers[name.rpartition("/")[0]].append(a)
  file = io.BytesIO()
  with h5py.File(file, "w") as f:
    if legacy:
      f.attrs["layer_names"] = [name.encode() for name in layers]
    for name, arrays in layers.items():
      group = f.create_group(name if legacy else f"layers/{name}/vars")
      group.attrs["name"] = name
      group.attrs["weight_names"] = [str(i).encode() for i in range(len(arrays))]
      for i, a in enumerate(arrays):
        group.create_dataset(str(i), data=a, compression="gzip" if legacy and i == 0 else None)
  return file.getvalue()


def keras(content):
  """A .keras file."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("model.weights.h5", content)
    archive.writestr("config.json", "{}")
  return file.getvalue()


def torch_files(tensors):
  """Files of torch.save, in both of its formats."""
  import torch

  state = {name: torch.from_numpy(a) for name, a in tensors.items()}
  for content in (state, {"model": state, "epoch": 3, "metric": np.float64(3)}):
    for zipped in (True, False):
      file = io.BytesIO()
      torch.save(content, file, _use_new_zipfile_serialization=zipped)
      yield file.getvalue()


def originals(form):
  """The source of a format's files, and valid ones."""
  source = {"h5": "keras", "keras": "keras", "pb": "tf_object_detection"}.get(form, "timm")
  model, fields = NETWORKS[source]
  tensors = seeds.tensors(sources.published(source, model, **fields))
  # of two classes: smaller
  tensors = {k: np.ascontiguousarray(a[:2]) if k.startswith("classifier") else a for k, a in tensors.items()}
  if form == "safetensors":
    return source, [save(tensors)]
  if form == "npz":
    return source, [npz(tensors, False), npz(tensors, True)]
  if form == "pb":
    return source, [graphs.graph(tensors)]
  if form == "pth":
    return source, list(torch_files(tensors))
  files = [hdf5(tensors, True), hdf5(tensors, False)]
  return source, files if form == "h5" else [keras(content) for content in files]


def mutated(rng, content):
  """Changes the beginning, the end, where archives have their names, or any part of a file."""
  part = rng.choice((64, 1024, 16384, len(content)))
  if rng.random() < 0.4:
    return content[:-part] + mutated_bytes(rng, content[-part:])
  return mutated_bytes(rng, content[:part]) + content[part:]


def main(seed, seconds, form):
  rng, ends, folder = random.Random(seed), collections.Counter(), pathlib.Path(tempfile.mkdtemp())
  source, files = originals(form)
  model, fields = NETWORKS[source]
  # a crash of this process leaves the file
  file = folder / "weights"
  print(f"inputs in {file}", flush=True)
  for content in files:
    file.write_bytes(content)
    sources.variables(source, model, formats.read(file), file.name, **fields)
  began = time.monotonic()
  while time.monotonic() - began < seconds:
    file.write_bytes(mutated(rng, rng.choice(files)))
    started = time.monotonic()
    try:
      sources.variables(source, model, formats.read(file), file.name, **fields)
      ends["read"] += 1
    except UsageError as error:
      assert 10 < len(str(error)) < 2000 and "\n" not in str(error), (file, error)
      ends["usage error"] += 1
    except BaseException:
      print(f"seed {seed}: {file}")
      traceback.print_exc()
      sys.exit(1)
    assert time.monotonic() - started < SECONDS, (seed, file)
    megabytes = peak_megabytes()
    assert megabytes < MEGABYTES, (seed, file, megabytes)
  shutil.rmtree(folder)
  print(dict(ends), f"{megabytes:.0f} MB")


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
