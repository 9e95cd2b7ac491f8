"""Sets of images that TensorFlow Datasets has prepared, with every photo at hand by its number.

TFDS reads its TFRecord files from front to back. Here an index of them makes any order possible, hence one that a resumed run
finds again in an instant. TensorFlow itself is not needed.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import struct

import numpy as np

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError, first_line

# in front of a record: its length and that number's checksum; behind it: its own checksum
HEADER, FOOTER = 12, 4


def library():
  """tensorflow_datasets; raises UsageError where it is not installed."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    import tensorflow_datasets
  except ImportError:
    raise UsageError(
      "config.data.dataset: fashion_mnist, folder and imagenet are at hand; those of TFDS need tensorflow-datasets, which "
      "pip install -r requirements.txt brings"
    ) from None
  return tensorflow_datasets


def opened(name, folder):
  """The prepared builder of a data set of any kind.

  Args:
    name: as TFDS has it: cifar10, oxford_flowers102, imagenet_v2/matched-frequency.
    folder: where TFDS keeps its data sets; "" for its usual place.

  Raises:
    UsageError: if there is no such set, or it is not prepared.
  """
  tfds = library()
  try:
    found = tfds.builder(name, data_dir=folder or None)
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
    known = ("fashion_mnist", "folder", "imagenet", *tfds.list_builders())
    if name.split("/")[0].split(":")[0] not in known:
      close = nearest(name, known)
      close = close if close.startswith("did") else "fashion_mnist, folder, imagenet and all names of TFDS are possible"
      raise UsageError(f"no data set is called {name!r}; {close}") from None
    raise UsageError(f"TFDS cannot open {name!r}: {first_line(error)}") from None
  if not found.is_prepared():
    where = f" --data_dir={folder}" if folder else ""
    raise UsageError(f"{name} is not prepared in {found.data_dir}; once: tfds build {name}{where}")
  if found.info.file_format != tfds.core.FileFormat.TFRECORD:
    raise UsageError(
      f"{name} is prepared as {found.info.file_format.value}; tfds build {name} --file_format=tfrecord makes what is read here"
    )
  return found


def builder(name, folder):
  """The same of images with one label each; raises UsageError for a set of another kind, too."""
  found, tfds = opened(name, folder), library()
  keys = found.info.supervised_keys
  features = found.info.features
  kinds = [features[key] for key in keys or () if isinstance(key, str) and key in list(features)]
  if len(kinds) != 2 or not isinstance(kinds[0], tfds.features.Image) or not isinstance(kinds[1], tfds.features.ClassLabel):
    raise UsageError(f"{name} is no set of images with one class each; TFDS trains it as {keys}")
  return found


def class_names(found):
  """Of a builder, by label."""
  return tuple(found.info.features[found.info.supervised_keys[1]].names)


class Records:
  """Examples by number: a split of a builder, or a slice of one.

  Args:
    found: what `opened` returns.
    split: "train", "train[:90%]", ...
    images: names of the features that stay the bytes of a file.

  Raises:
    UsageError: naming the split, if there is none such, or a file that is damaged.
  """

  def __init__(self, found, split, images):
    tfds = library()
    self.builder, self.split = found, split
    self.skip = {name: tfds.decode.SkipDecoding() for name in images}
    try:
      info = found.info.splits[split]
      parts = info.file_instructions
    except (KeyError, ValueError, AssertionError):
      splits = {**found.info.splits}
      raise UsageError(
        f"no split {split!r} of {found.name}; {nearest(split, splits)}; a slice is written train[:90%]"
      ) from None
    self.files, self.records = _records(parts)
    self.n = len(self.records)
    if not self.n:
      raise UsageError(f"split {split!r} of {found.name} is empty")

  def __len__(self):
    return self.n

  def name(self, i):
    """Of example `i`, for people."""
    return f"{self.builder.name} {self.split}, example {i:,}"

  def example(self, i):
    """Example `i`, a dict by feature; raises OSError where it cannot be read."""
    file, at, length = (int(v) for v in self.records[i])
    record = _piece(self.files[file], at, length)
    try:
      return self.builder.info.features.deserialize_example_np(record, decoders=self.skip)
    except Exception as error:  # protobuf's own
      raise OSError(f"the record is damaged: {first_line(error)}") from None

  @property
  def fingerprint(self):
    """A word that is another one for another version or number of photos."""
    return f"{self.n} photos of {self.builder.info.full_name} {self.split}"


class Prepared(Records):
  """A source of photos with one label each.

  Args:
    found: what `builder` returns.
    split: as Records takes it.
    classes: names by label that it must have; None for any.

  Raises:
    UsageError: as Records does, and for other classes.
  """

  def __init__(self, found, split, classes=None):
    if classes is not None and tuple(classes) != class_names(found):
      raise UsageError(f"config.data.classes are not those of {found.name}, and of a set of TFDS all are taken")
    self.image, self.label = found.info.supervised_keys
    super().__init__(found, split, (self.image,))

  def read(self, i):
    """(bytes, label) of photo `i`; raises OSError where it cannot be read."""
    example = self.example(i)
    return example[self.image], int(example[self.label])

  def reader(self, tf):
    """As Folder.reader; a record whose checksum is wrong is an error."""
    files, records = tf.constant(self.files), tf.constant(self.records)

    def read(i):
      record = tf.gather(records, i)
      # one record from its place on; the public TFRecordDataset begins at the front
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


def _records(parts):
  """(files, (n, 3) file, position and length of every record) of TFDS's file instructions."""
  files = [str(part.filename) for part in parts]
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    tables = list(pool.map(_indexed, files))
  chosen = []
  for i, (part, table) in enumerate(zip(parts, tables, strict=True)):
    mine = table[part.skip : part.skip + part.take if part.take >= 0 else None]
    chosen.append(np.column_stack([np.full(len(mine), i), mine]))
  return files, np.concatenate(chosen) if chosen else np.zeros((0, 3), np.int64)


def _indexed(path):
  """(n, 2) position and length of the records of a file; kept in the user's cache, since a large set takes minutes."""
  size, changed = _stat(path)
  key = hashlib.sha256(f"{path} {size} {changed}".encode()).hexdigest()[:24]
  cache = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mnv3_jax" / "records" / f"{key}.npy"
  )
  try:
    return np.load(cache)
  except (OSError, ValueError, EOFError):
    table = _scanned(path, size)
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_name(f"{key}.{os.getpid()}.npy")
    np.save(draft, table)
    draft.replace(cache)
  except OSError:
    # without a cache the next start takes as long as this one
    pass
  return table


def _scanned(path, size):
  """The same from the headers in the file itself."""
  found, at = [], 0
  with open(path, "rb", buffering=0) if "://" not in path else _remote(path) as file:
    while at < size:
      file.seek(at)
      header = file.read(HEADER)
      length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else size
      if at + HEADER + length + FOOTER > size:
        raise UsageError(f"{path!r} is damaged: a record at byte {at:,} reaches beyond the end; prepare the data set again")
      found.append((at + HEADER, length))
      at += HEADER + length + FOOTER
  return np.array(found, np.int64).reshape(-1, 2)


def _piece(path, at, length):
  """Some bytes of a file."""
  if "://" in path:
    with _remote(path) as file:
      file.seek(at)
      return file.read(length)
  handle = os.open(path, os.O_RDONLY)
  try:
    return os.pread(handle, length, at)
  finally:
    os.close(handle)


def _stat(path):
  """(size, time of the last change) of a file."""
  if "://" in path:
    import tensorflow as tf

    found = tf.io.gfile.stat(path)
    return found.length, found.mtime_nsec
  found = os.stat(path)
  return found.st_size, found.st_mtime_ns


def _remote(path):
  """A file in a bucket."""
  import tensorflow as tf

  return tf.io.gfile.GFile(path, "rb")
