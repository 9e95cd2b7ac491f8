"""Files that PyTorch really writes, read by this project: files_torch.py CASE.npz ... (needs the project on PYTHONPATH)."""

import os
import pathlib
import pickle
import sys
import tempfile

import numpy as np
import torch

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats, sources


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


def main(files):
  """Every form of .pth, with the names of every network."""
  folder = pathlib.Path(tempfile.mkdtemp())
  for file in files:
    case = np.load(file)
    source, model = str(case["source"]), str(case["model"])
    state = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w:")}
    expected = sources.variables(source, model, {k: t.numpy() for k, t in state.items()}, "arrays")[2]
    counted = {**state, "bn1.num_batches_tracked": torch.tensor(7)}
    forms = {
      "zip": (counted, True),
      "legacy": (counted, False),
      "wrapped": ({"model": state, "epoch": 3, "args": {"lr": 0.1}}, True),
      "averaged": ({"state_dict": {k: t * 0 for k, t in state.items()}, "state_dict_ema": state}, True),
      "parallel": ({"model_ema": {"n_averaged": torch.tensor(5), **{f"module.{k}": t for k, t in state.items()}}}, True),
      "parameters": ({k: torch.nn.Parameter(t) for k, t in state.items()}, True),
    }
    for form, (content, zipped) in forms.items():
      path = folder / f"{form}.pth"
      torch.save(content, path, _use_new_zipfile_serialization=zipped)
      found = sources.variables(source, model, formats.read(path), str(path))[2]
      assert same(found, expected), (file, form)
      path.unlink()
    print(f"{source} {model}: {len(forms)} forms of .pth", flush=True)
  torch.save({"weights": Bomb(folder / "went_off")}, folder / "bomb.pth")
  torch.save({"weights": Bomb(folder / "went_off")}, folder / "old.pth", _use_new_zipfile_serialization=False)
  (folder / "plain.pth").write_bytes(pickle.dumps(Bomb(folder / "went_off")))
  for name in ("bomb.pth", "old.pth", "plain.pth"):
    assert "never loaded" in refused(folder / name), refused(folder / name)
  assert not (folder / "went_off").exists()
  torch.save(state, folder / "whole.pth")
  content = (folder / "whole.pth").read_bytes()
  for share in (0.1, 0.5, 0.99):
    (folder / "cut.pth").write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refused(folder / "cut.pth"), refused(folder / "cut.pth")
  torch.save([torch.ones(3)], folder / "list.pth")
  assert "no state dict" in refused(folder / "list.pth")
  torch.save({"a": torch.ones(3), "b": 4}, folder / "mixed.pth")
  assert "'b' is no tensor" in refused(folder / "mixed.pth")
  print("bombs, cut and odd files: refused")


if __name__ == "__main__":
  os.environ.setdefault("OMP_NUM_THREADS", "2")
  main(sys.argv[1:])
