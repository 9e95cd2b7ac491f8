"""Random access to data sets that TensorFlow Datasets has prepared.

TFDS reads its TFRecord files sequentially. An index of their records allows any order, so that a resumed run starts at any step
without reading what came before. TensorFlow itself is not needed.
"""

import concurrent.futures
import hashlib
import os
import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.base import Reader
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.paths import MAX_BYTES, cache_directory

# bytes before a record: its length and the length's checksum; after it: its own checksum
HEADER, FOOTER = 12, 4


def import_tfds() -> Any:
  """Imports tensorflow_datasets; raises UsageError where it is not installed."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    import tensorflow_datasets
  except ImportError:
    raise UsageError(
      "data sets other than fashion_mnist, folder and imagenet require tensorflow-datasets; "
      "pip install -r requirements.txt installs it"
    ) from None
  return tensorflow_datasets


def open_builder(name: str, folder: str) -> Any:
  """Opens the TFDS builder of a prepared data set.

  Args:
    name: as TFDS has it: cifar10, oxford_flowers102, imagenet_v2/matched-frequency.
    folder: where TFDS keeps its data sets; "" for its default.

  Raises:
    UsageError: if there is no such data set, or it is not prepared.
  """
  tfds = import_tfds()
  try:
    found = tfds.builder(name, data_dir=folder or None)
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
    known = ("fashion_mnist", "folder", "imagenet", *tfds.list_builders())
    if name.split("/")[0].split(":")[0] not in known:
      close = nearest(name, known)
      close = close if close.startswith("did") else "expected fashion_mnist, folder, imagenet, or a name of TFDS"
      raise UsageError(f"no data set {name!r}; {close}") from None
    raise UsageError(f"TFDS cannot open {name!r}: {first_line(error)}") from None
  if not found.is_prepared():
    where = f" --data_dir={folder}" if folder else ""
    raise UsageError(f"{name} is not prepared in {found.data_dir}; run once: tfds build {name}{where}")
  if found.info.file_format != tfds.core.FileFormat.TFRECORD:
    raise UsageError(
      f"{name} is prepared as {found.info.file_format.value}; expected TFRecord files: tfds build {name} --file_format=tfrecord"
    )
  return found


def image_builder(name: str, folder: str) -> Any:
  """Opens the TFDS builder of a data set of images with one label each; raises UsageError for other kinds, too."""
  found = open_builder(name, folder)
  image_and_label(found)
  return found


def image_and_label(found: Any) -> tuple[str, str]:
  """Returns the names of the features that are the image and its class: the supervised keys, else the only ones of their types.

  Raises:
    UsageError: with the features that there are, for a data set of another kind.
  """
  tfds, features, keys = import_tfds(), found.info.features, found.info.supervised_keys
  types = (tfds.features.Image, tfds.features.ClassLabel)
  if not isinstance(features, tfds.features.FeaturesDict):
    raise UsageError(f"invalid data set {found.name!r}; expected a dict of features, among them an image and its class")
  if keys is None:
    named = [[name for name, feature in features.items() if isinstance(feature, kind)] for kind in types]
    keys = tuple(names[0] for names in named if len(names) == 1)
  kinds = [features[key] for key in keys if isinstance(key, str) and key in list(features)]
  if len(kinds) != 2 or not all(map(isinstance, kinds, types)):
    has = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    raise UsageError(f"invalid data set {found.name!r}; expected images with one class each, it has {has}")
  return keys


def class_names(found: Any) -> tuple[str, ...]:
  """Returns the class names of a builder by label."""
  return tuple(found.info.features[image_and_label(found)[1]].names)


class TFDSExamples:
  """Base of sources: examples of a split by number.

  Args:
    found: result of open_builder.
    split: "train", "train[:90%]", ...
    images: names of the features that stay encoded.

  Raises:
    UsageError: naming the split, if it is invalid or empty, or the damaged file.
  """

  def __init__(self, found: Any, split: str, images: Sequence[str]) -> None:
    tfds = import_tfds()
    self.builder, self.split = found, split
    self.skip = {name: tfds.decode.SkipDecoding() for name in images}
    try:
      info = found.info.splits[split]
      parts = info.file_instructions
    except (KeyError, ValueError, AssertionError):
      splits = {**found.info.splits}
      raise UsageError(
        f"no split {split!r} of {found.name}; {nearest(split, splits)}; an example of a slice is train[:90%]"
      ) from None
    self.files, self.records = _list_records(parts)
    self.n = len(self.records)
    if not self.n:
      raise UsageError(f"split {split!r} of {found.name} is empty")

  def __len__(self) -> int:
    return self.n

  def name(self, i: int) -> str:
    """See Source.name."""
    return f"{self.builder.name} {self.split}, example {i:,}"

  def example(self, i: int) -> dict[str, Any]:
    """Returns example `i` by feature; raises OSError where it cannot be read."""
    file, at, length = (int(v) for v in self.records[i])
    record = _read_range(self.files[file], at, length)
    try:
      return self.builder.info.features.deserialize_example_np(record, decoders=self.skip)
    except Exception as error:  # protobuf's own
      raise OSError(f"the record is damaged: {first_line(error)}") from None

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint; names the version of the data set."""
    # "photos": checkpoints keep these words
    return f"{self.n} photos of {self.builder.info.full_name} {self.split}"


class TFDSImages(TFDSExamples):
  """An ImageSource.

  Args:
    found: result of image_builder.
    split: see TFDSExamples.
    classes: expected names by label; None for any.

  Raises:
    UsageError: see TFDSExamples; and for other classes.
  """

  def __init__(self, found: Any, split: str, classes: Sequence[str] | None = None) -> None:
    if classes is not None and tuple(classes) != class_names(found):
      raise UsageError(f"invalid config.data.classes; expected all classes of {found.name} in its order, or ()")
    self.image, self.label = image_and_label(found)
    super().__init__(found, split, (self.image,))

  @property
  def labels(self) -> None:
    """See ImageSource.labels."""
    return None

  def read(self, i: int) -> tuple[bytes, int]:
    """See ImageSource.read."""
    example = self.example(i)
    return example[self.image], int(example[self.label])

  def reader(self, tf: ModuleType) -> Reader:
    """See ImageSource.reader; a record with a wrong checksum is an error."""
    files, records = tf.constant(self.files), tf.constant(self.records)

    def read(i: object) -> tuple[object, object]:
      record = tf.gather(records, i)
      # reads one record from its offset; the public TFRecordDataset starts at the front of the file
      opened = tf.raw_ops.TFRecordDatasetV2(
        filenames=[tf.gather(files, record[0])],
        compression_type="",
        buffer_size=record[2] + HEADER + FOOTER,
        byte_offsets=[record[1] - HEADER],
      )
      one = tf.data.experimental.from_variant(opened, tf.TensorSpec([], tf.string)).take(1)
      example = self.builder.info.features.deserialize_example(one.get_single_element(), decoders=self.skip)
      return example[self.image], example[self.label]

    return read


def _list_records(parts: Sequence[Any]) -> tuple[list[str], Int64[np.ndarray, "n 3"]]:
  """Lists (files, file number, offset and length of every record) of TFDS's file instructions."""
  files = [str(part.filename) for part in parts]
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    tables = list(pool.map(_index_file, files))
  chosen = []
  for i, (part, table) in enumerate(zip(parts, tables, strict=True)):
    mine = table[part.skip : part.skip + part.take if part.take >= 0 else None]
    chosen.append(np.column_stack([np.full(len(mine), i), mine]))
  return files, np.concatenate(chosen) if chosen else np.zeros((0, 3), np.int64)


def _index_file(path: str) -> Int64[np.ndarray, "n 2"]:
  """Offset and length of the records of a file; kept in the user's cache, since a large data set takes minutes."""
  size, changed = _stat(path)
  key = hashlib.sha256(f"{path} {size} {changed}".encode()).hexdigest()[:24]
  directory = cache_directory()
  if directory is None:
    return _scan_file(path, size)
  cache = directory / "records" / f"{key}.npy"
  try:
    return np.load(cache)
  except (OSError, ValueError, EOFError):
    table = _scan_file(path, size)
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_name(f"{key}.{os.getpid()}.npy")
    np.save(draft, table)
    draft.replace(cache)
  except OSError:
    pass  # without a cache, the next start takes as long as this one
  return table


def _scan_file(path: str, size: int) -> Int64[np.ndarray, "n 2"]:
  """Offset and length of the records of a file, from their headers."""
  found, at = [], 0
  with open(path, "rb", buffering=0) if "://" not in path else _open_remote(path) as file:
    while at < size:
      file.seek(at)
      header = file.read(HEADER)
      length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else size
      if at + HEADER + length + FOOTER > size:
        raise UsageError(f"{path!r} is damaged: a record at byte {at:,} reaches beyond the end; prepare the data set again")
      if length > MAX_BYTES:
        raise UsageError(f"{path!r} is damaged: a record at byte {at:,} has {length:,} bytes; expected at most {MAX_BYTES:,}")
      found.append((at + HEADER, length))
      at += HEADER + length + FOOTER
  return np.array(found, np.int64).reshape(-1, 2)


def _read_range(path: str, at: int, length: int) -> bytes:
  """Reads `length` bytes at an offset of a file."""
  if "://" in path:
    with _open_remote(path) as file:
      file.seek(at)
      return file.read(length)
  handle = os.open(path, os.O_RDONLY)
  try:
    return os.pread(handle, length, at)
  finally:
    os.close(handle)


def _stat(path: str) -> tuple[int, int]:
  """Size and time of the last change of a file."""
  if "://" in path:
    import tensorflow as tf

    found = tf.io.gfile.stat(path)
    return found.length, found.mtime_nsec
  found = os.stat(path)
  return found.st_size, found.st_mtime_ns


def _open_remote(path: str) -> Any:
  """Opens a file in a bucket."""
  import tensorflow as tf

  return tf.io.gfile.GFile(path, "rb")
