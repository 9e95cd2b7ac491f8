"""Weight files: every format, and everything that can be wrong with one."""

import importlib.util
import pickle
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}


def assert_same(found):
  assert set(found) == set(TENSORS)
  for name, array in TENSORS.items():
    np.testing.assert_array_equal(found[name], array)


def test_safetensors_and_npz_are_the_same(tmp_path):
  save_file(TENSORS, tmp_path / "w.safetensors")
  np.savez(tmp_path / "w.npz", **TENSORS)
  assert_same(formats.read(tmp_path / "w.safetensors"))
  assert_same(formats.read(tmp_path / "w.npz"))
  save_file({"a": np.ones(3, ml_dtypes.bfloat16)}, tmp_path / "half.safetensors")
  assert str(formats.read(tmp_path / "half.safetensors")["a"].dtype) == "bfloat16"


LAYERS = [("conv", [np.ones((3, 3, 3, 8))]), ("conv_bn", [np.full(8, i) for i in range(4)])]


def legacy(path, root=""):
  """A file as Keras 2 wrote it: save_weights, or (in a group) the whole model."""
  with h5py.File(path, "w") as f:
    group = f.create_group(root) if root else f
    group.attrs["layer_names"] = [b"input", *(name.encode() for name, _ in LAYERS)]
    group.create_group("input").attrs["weight_names"] = []
    for name, arrays in LAYERS:
      layer = group.create_group(name)
      layer.attrs["weight_names"] = [f"{name}/w{i}:0".encode() for i in range(len(arrays))]
      for i, a in enumerate(arrays):
        layer[f"{name}/w{i}:0"] = a


def keras3(path):
  """A file as Keras 3 writes it: classes count the groups, names are attributes."""
  with h5py.File(path, "w") as f:
    f.create_group("layers/re_lu/vars").attrs["name"] = "re_lu"
    for group, (name, arrays) in zip(("conv2d", "batch_normalization"), LAYERS, strict=True):
      variables = f.create_group(f"layers/{group}/vars")
      variables.attrs["name"] = name
      for i, a in enumerate(arrays):
        variables[str(i)] = a


def test_keras_files(tmp_path):
  legacy(tmp_path / "old.h5")
  legacy(tmp_path / "model.h5", "model_weights")
  keras3(tmp_path / "new.weights.h5")
  with zipfile.ZipFile(tmp_path / "new.keras", "w") as z:
    z.write(tmp_path / "new.weights.h5", "model.weights.h5")
    z.writestr("config.json", "{}")
  for name, ordered in (("old.h5", True), ("model.h5", True), ("new.weights.h5", False), ("new.keras", False)):
    found = formats.read(tmp_path / name)
    assert found.ordered == ordered
    assert {n: [a.tolist() for a in arrays] for n, arrays in found.layers} == {n: [a.tolist() for a in v] for n, v in LAYERS}


class Bomb:
  """Unpickled, it would make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), "w"))


def test_pickles_are_not_loaded(tmp_path):
  went_off = tmp_path / "went_off"
  np.savez(tmp_path / "bomb.npz", a=np.array([Bomb(went_off)], dtype=object))
  for name in ("bomb.pkl", "bomb.npy", "bomb.joblib"):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(went_off)))
  for name in ("bomb.npz", "bomb.pkl", "bomb.npy", "bomb.joblib"):
    with pytest.raises(UsageError, match="never loaded"):
      formats.read(tmp_path / name)
  assert not went_off.exists()


def test_pth_is_for_pytorchs_safe_loader(tmp_path):
  """tests/weights/sources/files_torch.py has what happens where PyTorch is installed, with real files."""
  (tmp_path / "w.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "went_off")))
  installed = importlib.util.find_spec("torch") is not None
  with pytest.raises(UsageError, match="never loaded" if installed else r"PyTorch only.*pip install torch.*safetensors"):
    formats.read(tmp_path / "w.pth")
  assert not (tmp_path / "went_off").exists()


def written(tmp_path):
  save_file(TENSORS, tmp_path / "w.safetensors")
  np.savez(tmp_path / "w.npz", **TENSORS)
  legacy(tmp_path / "w.h5")
  with zipfile.ZipFile(tmp_path / "w.keras", "w") as z:
    z.write(tmp_path / "w.h5", "model.weights.h5")
  return [tmp_path / f"w.{s}" for s in ("safetensors", "npz", "h5", "keras")]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_cut_off_files_are_named(share, tmp_path):
  for file in written(tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match=f"{file.name}.*(damaged or cut off|is empty)"):
      formats.read(file)


def test_other_bytes_are_named(tmp_path):
  for file in written(tmp_path):
    file.write_bytes(b"<html>404: not found</html>" * 50)
    with pytest.raises(UsageError, match="damaged or cut off"):
      formats.read(file)


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("model.ckpt-90.data-00000-of-00001", "TensorFlow's own format"),
    ("v3.pb", "TensorFlow's own format"),
    ("model.onnx", "expected one of .safetensors, .npz"),
    ("model", "expected one of .safetensors, .npz"),
  ],
)
def test_formats_that_are_not_read(name, words, tmp_path):
  (tmp_path / name).write_bytes(b"x" * 10)
  with pytest.raises(UsageError, match=words):
    formats.read(tmp_path / name)
  with pytest.raises(UsageError, match="no file"):
    formats.read(tmp_path / "nowhere.npz")


def test_a_header_that_claims_more_than_there_is_memory(tmp_path):
  header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
  array = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
  with zipfile.ZipFile(tmp_path / "huge.npz", "w") as z:
    z.writestr("a.npy", array)
  with pytest.raises(UsageError, match="damaged"):
    formats.read(tmp_path / "huge.npz")


def test_an_hdf5_file_of_something_else(tmp_path):
  with h5py.File(tmp_path / "w.h5", "w") as f:
    f["x"] = np.ones(3)
  with pytest.raises(UsageError, match="no weights of a Keras model"):
    formats.read(tmp_path / "w.h5")
  with zipfile.ZipFile(tmp_path / "w.keras", "w") as z:
    z.writestr("config.json", "{}")
  with pytest.raises(UsageError, match=r"w\.keras"):
    formats.read(tmp_path / "w.keras")
