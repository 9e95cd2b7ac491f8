"""Files that PyTorch really writes, read by this project: files_torch.py CASE.npz ... (needs the project on PYTHONPATH)."""

import argparse
import datetime
import itertools
import os
import pathlib
import pickle
import sys
import tempfile
import zipfile

import numpy as np
import torch

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats, sources

# names that files of torch.save have
SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar", "")


class Bomb:
  """Unpickled, it would make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), "w"))


def same(one, other):
  """Whether two trees of arrays are equal to the bit."""
  if isinstance(one, dict):
    return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
  return one.dtype == other.dtype and np.array_equal(one, other)


def refused(path):
  """The sentence that refuses a file."""
  try:
    formats.read(path)
  except UsageError as error:
    return str(error)
  raise AssertionError(f"{path} was read")


def prefixed(prefix, state):
  """A state dict as a wrapper names it."""
  return {f"{prefix}{k}": t for k, t in state.items()}


def forms_of(state):
  """Contents of files with these weights, and whether each is a zip archive: as training programs write them."""
  zeros = {k: t * 0 for k, t in state.items()}
  counted = {**state, "bn1.num_batches_tracked": torch.tensor(7)}
  arguments = argparse.Namespace(lr=0.1, output=pathlib.Path("/tmp"), best=np.float64(72.3))
  optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": np.float32(0.1), "params": [0]}]}
  average = {"n_averaged": torch.tensor(5), **prefixed("module.", state)}
  return {
    "zip": (counted, True),
    "legacy": (counted, False),
    "wrapped": ({"model": state, "epoch": 3, "args": {"lr": 0.1}}, True),
    "averaged": ({"state_dict": zeros, "state_dict_ema": state}, True),
    "parallel": ({"model_ema": average}, True),
    "parameters": ({k: torch.nn.Parameter(t) for k, t in state.items()}, True),
    "transposed in memory": ({k: t.T.contiguous().T if t.ndim == 2 else t for k, t in state.items()}, True),
    "double": ({k: t.double() for k, t in state.items()}, True),
    "compiled": (prefixed("_orig_mod.module.", state), True),
    "compiled first": (prefixed("module._orig_mod.", state), False),
    # references/classification/train.py
    "torchvision": (
      {
        "model": prefixed("module.", zeros),
        "model_ema": average,
        "optimizer": optimizer,
        "lr_scheduler": {"_last_lr": [0.1]},
        "epoch": 3,
        "args": arguments,
        "scaler": {"scale": 1.0},
      },
      True,
    ),
    # timm/utils/checkpoint_saver.py
    "timm": (
      {
        "epoch": 3,
        "arch": "mobilenet",
        "state_dict": zeros,
        "optimizer": optimizer,
        "version": 2,
        "args": arguments,
        "amp_scaler": {},
        "state_dict_ema": state,
        "metric": np.float64(72.3),
      },
      True,
    ),
    "lightning": (
      {
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(4)},
        "optimizer_states": [optimizer],
        "hyper_parameters": {"when": datetime.date(2026, 1, 1), "sizes": np.arange(3)},
      },
      True,
    ),
  }


def check_refused(folder, state):
  """Asserts the sentence about each file that has no plain weights."""
  bomb = Bomb(folder / "went_off")
  for content in (bomb, {"weights": bomb}, {**state, "args": argparse.Namespace(x=bomb)}, {"metric": [np.float64(1), bomb]}):
    for zipped in (True, False):
      torch.save(content, folder / "bomb.pth", _use_new_zipfile_serialization=zipped)
      assert "(io.open): that can run any program" in refused(folder / "bomb.pth"), refused(folder / "bomb.pth")
  (folder / "plain.pth").write_bytes(pickle.dumps(bomb))
  assert "never loaded" in refused(folder / "plain.pth"), refused(folder / "plain.pth")
  assert not (folder / "went_off").exists()
  for zipped in (True, False):
    torch.save(state, folder / "whole.pth", _use_new_zipfile_serialization=zipped)
    content = (folder / "whole.pth").read_bytes()
    for tenth in range(1, 10):
      (folder / "cut.pth").write_bytes(content[: len(content) * tenth // 10])
      assert "damaged" in refused(folder / "cut.pth"), refused(folder / "cut.pth")
  script = torch.jit.script(torch.nn.Linear(2, 2))
  torch.jit.save(script, folder / "script.pth")
  assert "a TorchScript program" in refused(folder / "script.pth"), refused(folder / "script.pth")
  for content, words in (
    ([torch.ones(3)], "no state dict of named tensors, but a list"),
    ({"a": 1, "b": {"c": 2}}, "no state dict of named tensors; 'a', 'b' are none"),
    (torch.nn.Linear(2, 2), "(torch.nn.modules.linear.Linear)"),
    ({"a": torch.zeros(1).expand(2**20, 2**20)}, "declares 4,096.00 GiB"),
    ({"a": torch.eye(3).to_sparse()}, "a sparse or quantized tensor"),
    ({"a": torch.ones(3, device="meta")}, "one without values"),
  ):
    torch.save(content, folder / "odd.pth")
    assert words in refused(folder / "odd.pth"), refused(folder / "odd.pth")
  torch.save({"a": torch.ones(3)}, folder / "small.pth")
  # bytearray(8000000000), which PyTorch's restricted loader allows
  asks = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x05" + (8 * 10**9).to_bytes(5, "little") + b"\x85Rs."
  with zipfile.ZipFile(folder / "small.pth") as small, zipfile.ZipFile(folder / "huge.pth", "w") as huge:
    for name in small.namelist():
      huge.writestr(name, asks if name.endswith("data.pkl") else small.read(name))
  assert "takes more memory to read" in refused(folder / "huge.pth"), refused(folder / "huge.pth")
  print("bombs, cut and odd files: refused")


def main(files):
  """Every form of .pth, with the names of every network."""
  folder = pathlib.Path(tempfile.mkdtemp())
  for file in files:
    case = np.load(file)
    source, model = str(case["source"]), str(case["model"])
    state = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w:")}
    expected = sources.variables(source, model, {k: t.numpy() for k, t in state.items()}, "arrays")[2]
    forms = forms_of(state)
    for (form, (content, zipped)), suffix in zip(forms.items(), itertools.cycle(SUFFIXES), strict=False):
      path = folder / f"weights{suffix}"
      torch.save(content, path, _use_new_zipfile_serialization=zipped)
      found = sources.variables(source, model, formats.read(path), str(path))[2]
      assert same(found, expected), (file, form)
      path.unlink()
    for dtype in (torch.float16, torch.bfloat16):
      torch.save({k: t.to(dtype) for k, t in state.items()}, folder / "half.pth")
      found = sources.variables(source, model, formats.read(folder / "half.pth"), "half.pth")[2]
      rounded = {k: t.to(dtype).float().numpy() for k, t in state.items()}
      assert same(found, sources.variables(source, model, rounded, "arrays")[2]), (file, dtype)
    if source == "timm":
      # as num_classes=0 leaves it
      torch.save({k: t for k, t in state.items() if not k.startswith("classifier.")}, folder / "headless.pth")
      found = sources.variables(source, model, formats.read(folder / "headless.pth"), "headless.pth")[2]
      params = {row: tensors for row, tensors in expected["params"].items() if row != "logits"}
      assert same(found, {**expected, "params": params}), (file, "headless")
    print(f"{source} {model}: {len(forms) + 2} forms of .pth", flush=True)
  check_refused(folder, state)


if __name__ == "__main__":
  os.environ.setdefault("OMP_NUM_THREADS", "2")
  main(sys.argv[1:])
