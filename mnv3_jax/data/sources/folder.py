"""Photos in one folder per class: <root>/<class>/<photo>."""

import functools
import pathlib
import zlib

import numpy as np

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.splits import cut
from mnv3_jax.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm")


class Folder:
  """A source of photos: files, in the order of their names.

  Args:
    root: of the class folders.
    classes: names by label.
    folders: names that the classes' folders may have, by label, each a tuple.
    others: names of folders that are passed over; any other is an error.

  Attributes:
    files: [(path, label)].

  Raises:
    UsageError: if there is no folder, no photo, or a folder of no class; names it.
  """

  def __init__(self, root, classes, folders, others=()):
    root = pathlib.Path(root)
    if not root.is_dir():
      raise UsageError(f"no folder {str(root)!r}; photos are read from one folder per class in it")
    if not classes:
      raise UsageError(
        "the classes of these weights have no names; import --classes FILE gives them, and folders are found by them"
      )
    # a class's own name counts before what others may be called
    owners = {names[0]: {i} for i, names in enumerate(folders)}
    for name, i in [(name, i) for i, names in enumerate(folders) for name in names[1:]]:
      if name not in {names[0] for names in folders}:
        owners.setdefault(name, set()).add(i)
    self.root, self.files = root, []
    for folder in class_folders(root):
      if len(owners.get(folder.name, ())) > 1:
        names = " and ".join(repr(classes[i]) for i in sorted(owners[folder.name]))
        raise UsageError(f"{str(folder)!r} may be the folder of {names}; give it the whole name of one of them")
      if folder.name in owners:
        (label,) = owners[folder.name]
        self.files += [(p, label) for p in sorted(folder.rglob("[!.]*")) if _is_photo(p.relative_to(root))]
      elif folder.name not in others:
        raise UsageError(f"{str(folder)!r} is the folder of no class of this network; {nearest(folder.name, owners)}")
    if not self.files:
      raise UsageError(f"no photos in the folders of {str(root)!r}; {', '.join(SUFFIXES)} are read")

  def __len__(self):
    return len(self.files)

  def name(self, i):
    """Of photo `i`, for people."""
    return str(self.files[i][0])

  def read(self, i):
    """(bytes, label) of photo `i`; raises OSError where the file cannot be read."""
    path, label = self.files[i]
    return path.read_bytes(), label

  def reader(self, tf):
    """A function of a number, a tensor, that gives (bytes, label), both tensors; for tf.data."""
    paths = tf.constant([str(path) for path, _ in self.files])
    labels = tf.constant([label for _, label in self.files], tf.int32)
    return lambda i: (tf.io.read_file(tf.gather(paths, i)), tf.gather(labels, i))

  @functools.cached_property
  def fingerprint(self):
    """A word that is another one as soon as a photo is added, renamed or gone."""
    lines = "".join(f"{path.relative_to(self.root)} {label}\n" for path, label in self.files)
    return f"{len(self.files)} photos, {zlib.crc32(lines.encode()):08x}"


def _is_photo(path):
  return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


class Part:
  """Some photos of a source, as a source.

  Args:
    source: what they are of.
    chosen: their numbers in it.
  """

  def __init__(self, source, chosen):
    self.source, self.chosen = source, chosen

  def __len__(self):
    return len(self.chosen)

  def name(self, i):
    """As Folder.name."""
    return self.source.name(self.chosen[i])

  def read(self, i):
    """As Folder.read."""
    return self.source.read(self.chosen[i])

  def size(self, i):
    """As pairs.Pairs.size, of a source that has it."""
    return self.source.size(self.chosen[i])

  def reader(self, tf):
    """As Folder.reader."""
    read, chosen = self.source.reader(tf), tf.constant(self.chosen)
    return lambda i: read(tf.gather(chosen, i))

  @property
  def fingerprint(self):
    """As Folder.fingerprint."""
    return f"{len(self)} of {self.source.fingerprint}"


def split(root, name, classes, folders, others=()):
  """The photos of a split of the folder `root`: of its subfolder of that name, or of all class folders in it.

  Args:
    root: a folder that holds one folder per split, or is itself one of class folders.
    name: of the subfolder, or "all" for the class folders in `root`; a slice may follow, as TFDS writes it: "all[:90%]". A
      slice is of the photos in a random order, always the same one.
    classes, folders, others: as Folder takes them.

  Raises:
    UsageError: as Folder does, and for a slice that is none or empty.
  """
  name, ends = cut(name)
  return sliced(Folder(place(root, name), classes, folders, others), ends, f"{name!r} in {str(root)!r}")


def sliced(source, ends, name):
  """A slice of a source, of its photos in a random order that is always the same one.

  Args:
    source: photos by number.
    ends: what splits.cut gives beside the split's name; None for all of them as they are.
    name: of the source, for people.

  Raises:
    UsageError: if the slice is empty.
  """
  if ends is None:
    return source
  chosen = np.random.default_rng(0).permutation(len(source))[ends(len(source))]
  if not len(chosen):
    raise UsageError(f"a slice of {name} is empty; it has {len(source)} photos")
  return Part(source, chosen)


def place(root, name):
  """The folder of a split's class folders."""
  root = pathlib.Path(root)
  if name == "all":
    return root
  # what TFDS calls validation is called val in folders
  names = (name, "val") if name == "validation" else (name,)
  for folder in names:
    if (root / folder).is_dir():
      return root / folder
  there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
  raise UsageError(
    f"no folder {str(root / name)!r}; a split is a folder in config.data.dir with one folder per class in it, or all, or a "
    "slice such as all[:90%], of the class folders in config.data.dir itself"
    + (f"; there: {', '.join(there[:8])}" if there else "")
  )


def class_folders(root):
  """The folders in a folder, by name, but hidden ones."""
  return sorted(p for p in pathlib.Path(root).iterdir() if p.is_dir() and not p.name.startswith("."))


def folder_names(names):
  """What the folders of plain class names may be called: the name itself, or with what a path cannot have replaced."""
  return tuple(tuple(dict.fromkeys((name, name.replace("/", "_"), name.replace(" ", "_")))) for name in names)
