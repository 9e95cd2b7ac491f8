"""Weight files: every format, and everything that can be wrong with one."""

import importlib.util
import pathlib
import pickle
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from mnv3_jax.errors import UsageError
from mnv3_jax.memory import limited_memory
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


@pytest.mark.parametrize("name", ["w.pth", "w.pth.tar", "w.ckpt", "w.bin", "w"])
def test_files_of_torch_save_are_for_pytorchs_safe_loader(name, tmp_path):
  """tests/weights/sources/files_torch.py has what happens where PyTorch is installed, with real files."""
  installed = importlib.util.find_spec("torch") is not None
  words = "never loaded|damaged" if installed else r"PyTorch only.*pip install torch.*safetensors"
  with zipfile.ZipFile(tmp_path / name, "w") as z:
    z.writestr("archive/data.pkl", pickle.dumps(Bomb(tmp_path / "went_off"), protocol=2))
    z.writestr("archive/version", "3")
  with pytest.raises(UsageError, match=words):
    formats.read(tmp_path / name)
  # the older format of torch.save
  (tmp_path / name).write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) * 30)
  with pytest.raises(UsageError, match=words):
    formats.read(tmp_path / name)
  (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "went_off")))
  with pytest.raises(UsageError, match=r"a pickle.*never loaded"):
    formats.read(tmp_path / name)
  assert not (tmp_path / "went_off").exists()


def written(tmp_path):
  save_file(TENSORS, tmp_path / "w.safetensors")
  np.savez(tmp_path / "w.npz", **TENSORS)
  legacy(tmp_path / "w.h5")
  with zipfile.ZipFile(tmp_path / "w.keras", "w") as z:
    z.write(tmp_path / "w.h5", "model.weights.h5")
  return [tmp_path / f"w.{s}" for s in ("safetensors", "npz", "h5", "keras")]


@pytest.mark.parametrize("share", np.arange(10) / 10)
def test_cut_off_files_are_named(share, tmp_path):
  for file in written(tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match=f"{file.name}.*(damaged or cut off|is empty)"):
      formats.read(file)


@pytest.mark.parametrize("suffix", ["", ".pth", ".pth.tar", ".bin", ".npz", ".h5", ".weights.h5", ".keras", ".safetensors"])
def test_the_content_decides_not_the_suffix(suffix, tmp_path):
  for file in written(tmp_path):
    found = formats.read(file)
    other = formats.read(file.rename(tmp_path / f"other{suffix}"))
    if isinstance(found, dict):
      assert_same(other)
    else:
      assert other.ordered == found.ordered and [n for n, _ in other.layers] == [n for n, _ in found.layers]


@pytest.mark.parametrize(
  ("name", "content", "words"),
  [
    ("model.ckpt-90.data-00000-of-00001", b"x" * 10, "TensorFlow's own format"),
    ("v3.pb", b"x" * 10, "TensorFlow's own format"),
    ("m.ckpt", bytes(100) + (0xDB4775248B80FB57).to_bytes(8, "little"), "TensorFlow's own format"),
    ("checkpoint", b'model_checkpoint_path: "model.ckpt-90"', "TensorFlow's list of checkpoints"),
    ("model.onnx", b"\x08\x07\xff" * 50, "no known format; expected one of .safetensors, .npz"),
    ("w.pth", b"<!DOCTYPE html><html>404</html>", "a web page"),
    ("w.h5", b"<html>404: not found</html>" * 50, "a web page"),
    ("w.npz", b"404: Not Found", "a text that begins with '404: Not Found'"),
    ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a git-LFS pointer"),
    ("w.pth.tar", b"\x1f\x8b\x08" + bytes(100), "compressed by gzip"),
    ("w.pth", b'{"error": "not found"}', "JSON text"),
    ("w.bin", bytes(5000), "zero bytes: an incomplete download"),
    ("w.tar", b"a".ljust(257, b"\0") + b"ustar\0" + bytes(300), "a tar archive"),
    ("w.keras", b"\x93NUMPY" + bytes(100), "a single .npy array"),
    ("w.h5", b"", "is empty"),
  ],
)
def test_other_files_are_named(name, content, words, tmp_path):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UsageError, match=words):
    formats.read(tmp_path / name)


def test_paths_that_are_no_file(tmp_path):
  for path, words in (
    (tmp_path / "nowhere.npz", "no file"),
    (tmp_path, "a directory; expected one of"),
    (pathlib.Path("/dev/null"), "a device or a pipe"),
    (pathlib.Path("https://example.com/w.pth"), "a URL"),
  ):
    with pytest.raises(UsageError, match=words):
      formats.read(path)
  (tmp_path / "model.ckpt.index").write_bytes(b"x")
  with pytest.raises(UsageError, match="TensorFlow's own format"):
    formats.read(tmp_path / "model.ckpt")


def test_zip_archives_of_something_else(tmp_path):
  for members, words in (
    ({"config.json": "{}", "metadata.json": "{}"}, "a Keras model without weights"),
    ({"run/model.pth": "x"}, "a zip archive of run/model.pth; .* unpacked"),
    ({"a/data.pkl": "x", "a/constants.pkl": "x"}, "a TorchScript program"),
    ({"a\n\x1b[31mb": "x"}, r"a zip archive of 'a\\n"),
    ({}, "a zip archive of nothing"),
  ):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as z:
      for name, content in members.items():
        z.writestr(name, content)
    with pytest.raises(UsageError, match=words):
      formats.read(tmp_path / "w.npz")


def test_a_header_that_claims_more_than_there_is_memory(tmp_path):
  header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
  array = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
  with zipfile.ZipFile(tmp_path / "huge.npz", "w") as z:
    z.writestr("a.npy", array)
  with pytest.raises(UsageError, match="damaged"):
    formats.read(tmp_path / "huge.npz")
  for header in (2**62, 90_000_000):
    (tmp_path / "huge.safetensors").write_bytes(header.to_bytes(8, "little") + b'{"a": {}}')
    with pytest.raises(UsageError, match="damaged"):
      formats.read(tmp_path / "huge.safetensors")


@pytest.mark.parametrize("name", ["a.npy", "model.weights.h5"])
def test_an_archive_that_expands_to_more_than_any_network_has(name, tmp_path):
  """Refused by the size that it declares: nothing is unpacked."""
  with zipfile.ZipFile(tmp_path / "bomb", "w") as z:
    z.writestr(name, b"x" * 100)
  content = (tmp_path / "bomb").read_bytes()
  # the sizes and the method in the archive's directory
  at = content.index(b"PK\x01\x02")
  declared = content[: at + 10] + (8).to_bytes(2, "little") + content[at + 12 : at + 24]
  (tmp_path / "bomb").write_bytes(declared + (600 << 20).to_bytes(4, "little") + content[at + 28 :])
  with pytest.raises(UsageError, match=r"declares 0\.59 GiB of arrays; expected at most 0\.5 GiB"):
    formats.read(tmp_path / "bomb")


def test_a_file_that_takes_more_memory_than_reading_may(tmp_path, monkeypatch):
  """As a .pth file whose pickle asks for a bytearray of 8 GB; PyTorch itself is among the sources."""

  def greedy(path):
    with limited_memory(2**28):
      return bytearray(2**33)

  monkeypatch.setitem(formats.READERS, "npz", greedy)
  np.savez(tmp_path / "w.npz", a=np.ones(3))
  with pytest.raises(UsageError, match="takes more memory to read than any network here has weights"):
    formats.read(tmp_path / "w.npz")


def test_an_hdf5_file_of_something_else(tmp_path):
  with h5py.File(tmp_path / "w.h5", "w") as f:
    f["x"] = np.ones(3)
  with pytest.raises(UsageError, match="no weights of a Keras model"):
    formats.read(tmp_path / "w.h5")


def hostile(group, kind):
  """Adds w, whose values are elsewhere, none, or too many."""
  if kind == "external link":
    group["w"] = h5py.ExternalLink("other.h5", "/x")
  elif kind == "soft link":
    group["w"] = h5py.SoftLink("/a")
  elif kind == "external storage":
    group.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])
  elif kind == "virtual":
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, 2))
    group.create_virtual_dataset("w", layout)
  elif kind == "strings":
    group.create_dataset("w", data=["a"], dtype=h5py.string_dtype())
  elif kind == "empty":
    group.create_dataset("w", data=h5py.Empty("f4"))
  elif kind == "huge":
    group.create_dataset("w", (2**32,), "f4", compression="gzip", chunks=(2**20,))
  elif kind == "huge chunk":
    group.create_dataset("w", (1,), "f4", maxshape=(None,), compression="gzip", chunks=(2**29,))


@pytest.mark.parametrize(
  ("kind", "words"),
  [
    ("external link", "w is a link to something else"),
    ("soft link", "w is a link to something else"),
    ("external storage", "w is stored in another file"),
    ("virtual", "w is stored in another file"),
    ("strings", "w has no numbers"),
    ("empty", "w has no numbers"),
    ("missing", "no w"),
    ("huge", "declares 16.00 GiB"),
    ("huge chunk", "declares 2.00 GiB"),
  ],
)
def test_hdf5_files_are_read_alone_and_in_bounded_memory(kind, words, tmp_path):
  with h5py.File(tmp_path / "other.h5", "w") as f:
    f["x"] = np.ones((2, 2))
  with h5py.File(tmp_path / "w.h5", "w") as f:
    f.attrs["layer_names"] = [b"a"]
    f.create_group("a").attrs["weight_names"] = [b"w"]
    hostile(f["a"], kind)
  with pytest.raises(UsageError, match=words):
    formats.read(tmp_path / "w.h5")
