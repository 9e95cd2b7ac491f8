"""Format of a weight file by its content: suffixes say little (.pth.tar, .ckpt, .bin, none)."""

import pathlib
import zipfile

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.weights.content import shown
from mnv3_jax.weights.tf_graph import is_graph

# formats that are read, as an error message lists them
EXPECTED = "expected one of .safetensors, .npz, .h5, .keras, .pth"
# bytes at the beginning of a file that are looked at
HEAD = 2048

HDF5 = b"\x89HDF\r\n\x1a\n"
# the number that begins a legacy file of torch.save, as pickle writes it
TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
# the last bytes of a sorted table, which the .index of a TensorFlow checkpoint is, and all of an older one
TENSORFLOW_TABLE = (0xDB4775248B80FB57).to_bytes(8, "little")

# what a file with these first bytes is, where it has no weights that are read
OTHERS: tuple[tuple[bytes, str], ...] = (
  (b"\x1f\x8b", "compressed by gzip; unpack it first (tar xzf, or gunzip)"),
  (b"BZh", "compressed by bzip2; unpack it first"),
  (b"\xfd7zXZ\x00", "compressed by xz; unpack it first"),
  (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
  (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
  (b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
  (b"version https://git-lfs.github.com/spec/", "a git-LFS pointer instead of the file itself; git lfs pull fetches it"),
  (b"model_checkpoint_path:", "TensorFlow's list of checkpoints, not one of them"),
  (b"GGUF", "a GGUF file"),
  (b"\x93NUMPY", "a single .npy array; np.savez keeps several under their names"),
  (b"\x89PNG", "a PNG image"),
  (b"\xff\xd8\xff", "a JPEG image"),
  (b"%PDF", "a PDF document"),
)
TENSORFLOW = "in TensorFlow's own format; expected an .npz: mnv3_jax/weights/slim.py begins with the conversion"
PICKLE = "a pickle; pickles are never loaded: they can run any program"


def detect(path: pathlib.Path) -> str:
  """Returns the format of a weight file: "safetensors", "npz", "keras", "hdf5", "torch" or "tf_graph".

  Raises:
    UsageError: if there is no such file, it is empty or a directory, or its content is of none of these; says what it is.
  """
  name = repr(str(path))
  if not path.is_file():
    _fail_without_file(path)
  size = path.stat().st_size
  if not size:
    raise UsageError(f"{name} is empty")
  with path.open("rb") as file:
    head = file.read(HEAD)
    file.seek(-min(8, size), 2)
    tail = file.read()
  if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
    return _zip_format(path)
  found = _format(path, head, size)
  if found:
    return found
  raise UsageError(f"invalid file={name}, {_described(path, head, tail)}")


def _first_words(head: bytes) -> str | None:
  """Returns the beginning of a text; None if these are no bytes of one."""
  try:
    # the last character may be cut off
    text = head.decode() if len(head) < HEAD else head[:-4].decode("utf-8", "ignore")
  except UnicodeDecodeError:
    return None
  words = " ".join(text.split())[:40]
  return words if words and all(c.isprintable() or c.isspace() for c in text) else None


def _format(path: pathlib.Path, head: bytes, size: int) -> str | None:
  """Returns the format of a file that is no zip archive; None if it is none that is read."""
  # the length of a JSON header, and its first character
  if head[8:9] == b"{" and not head.startswith(b"{"):
    return "safetensors"
  if TORCH_MAGIC in head[:64]:
    return "torch"
  if head.startswith(HDF5):
    return "hdf5"
  if is_graph(head):
    return "tf_graph"
  # an HDF5 file may begin with something else, of 512 bytes or a power of two times that
  with path.open("rb") as file:
    at = 512
    while at < size:
      file.seek(at)
      if file.read(len(HDF5)) == HDF5:
        return "hdf5"
      at *= 2
  return None


def _described(path: pathlib.Path, head: bytes, tail: bytes) -> str:
  """Returns what a file is that is not read, as the end of a sentence."""
  text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
  for start, what in OTHERS:
    if head.startswith(start):
      return f"{what}; {EXPECTED}" if "; " not in what else what
  if tail == TENSORFLOW_TABLE or ".data-0000" in path.name or path.suffix in (".index", ".meta", ".pb"):
    return TENSORFLOW
  if text[:1] == b"<":
    return f"a web page (HTML or XML) instead of weights: the download failed; {EXPECTED}"
  if text[:1] in (b"{", b"["):
    return f"JSON text without weights; {EXPECTED}"
  if head[4:8] == b"TFL3":
    return f"a .tflite file, which has no names for weights; {EXPECTED}"
  if head[257:262] == b"ustar":
    return "a tar archive; unpack it first, or save it again where it came from (the oldest PyTorch files are such)"
  binary, text_pickle = head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5", head[:1] in (b"(", b"c") and tail[-1:] == b"."
  if binary or text_pickle or path.suffix in (".pkl", ".pickle", ".joblib"):
    return PICKLE
  if not head.strip(b"\0"):
    return f"which begins with {len(head):,} zero bytes: an incomplete download; {EXPECTED}"
  words = _first_words(head)
  if words:
    return f"a text that begins with {words!r}; {EXPECTED}"
  return f"whose content is of no known format; {EXPECTED}"


def _zip_format(path: pathlib.Path) -> str:
  """Returns the format of a zip archive by the names in it: .npz, .keras or a file of torch.save."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except Exception as error:  # zipfile raises exceptions of many types on damaged files
    raise UsageError(f"{str(path)!r} is damaged or cut off: a zip archive without a valid end ({first_line(error)})") from None
  given = f"invalid file={str(path)!r}"
  bases = [name.rpartition("/")[2] for name in names]
  if "data.pkl" in bases:
    if "constants.pkl" in bases:
      raise UsageError(f"{given}, a TorchScript program; expected its state dict: torch.save(model.state_dict(), file)")
    return "torch"
  if "model.weights.h5" in names:
    return "keras"
  if any(name.endswith(".npy") for name in names):
    return "npz"
  if "config.json" in names and "metadata.json" in names:
    raise UsageError(f"{given}, a Keras model without weights (no model.weights.h5); expected it saved by model.save")
  inside = (
    f"of {', '.join(map(shown, names[:3]))}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if names
    else "of nothing"
  )
  raise UsageError(f"{given}, a zip archive {inside}; {EXPECTED}, unpacked")


def _fail_without_file(path: pathlib.Path) -> None:
  """Raises UsageError about a path that is no file."""
  name = repr(str(path))
  if path.with_name(path.name + ".index").is_file():
    raise UsageError(f"invalid file={name}, {TENSORFLOW}")
  # pathlib makes one slash of two
  if str(path).startswith(("http:/", "https:/")):
    raise UsageError(f"invalid file={name}, a URL; expected a file: download it first")
  if not path.is_dir():
    raise UsageError(f"invalid file={name}, a device or a pipe; {EXPECTED}" if path.exists() else f"no file {name}")
  if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
    raise UsageError(f"invalid file={name}, the directory of a run, which needs no import; {EXPECTED}")
  if (path / "saved_model.pb").is_file():
    raise UsageError(f"invalid file={name}, a TensorFlow SavedModel; {EXPECTED}")
  weights = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", ".npz", ".h5", ".keras", ".pth", ".bin"))
  more = f", such as {str(path / weights[0])!r} in it" if weights else ""
  raise UsageError(f"invalid file={name}, a directory; {EXPECTED}{more}")
