"""Images in one folder per class: ROOT/CLASS/IMAGE.jpg."""

import functools
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.base import Reader
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm")


class Folder:
  """Source of the image files in class folders, in the order of their names.

  Args:
    root: parent of the class folders.
    classes: names by label.
    folders: accepted names of the classes' folders, by label.
    others: names of folders to skip; any other folder is an error.

  Attributes:
    files: [(path, label)].

  Raises:
    UsageError: naming the missing folder, or the folder that belongs to no class, or if there are no images.
  """

  def __init__(
    self, root: PathLike, classes: Sequence[str], folders: Sequence[Sequence[str]], others: Sequence[str] = ()
  ) -> None:
    root = pathlib.Path(root)
    if not root.is_dir():
      raise UsageError(f"no folder {str(root)!r}; expected a folder that holds one folder of images per class")
    if not classes:
      raise UsageError(
        "the classes of these weights have no names, by which folders are found; import --classes FILE gives them names"
      )
    owners = _folder_owners(folders)
    self.root = root
    self.files: list[tuple[pathlib.Path, int]] = []
    for folder in class_folders(root):
      if len(owners.get(folder.name, ())) > 1:
        names = " and ".join(repr(classes[i]) for i in sorted(owners[folder.name]))
        raise UsageError(f"{str(folder)!r} may be the folder of {names}; expected the whole name of one of them")
      if folder.name in owners:
        (label,) = owners[folder.name]
        self.files += [(p, label) for p in sorted(folder.rglob("[!.]*")) if _is_image(p.relative_to(root))]
      elif folder.name not in others:
        raise UsageError(f"{str(folder)!r} is the folder of no class of this network; {nearest(folder.name, owners)}")
    if not self.files:
      raise UsageError(f"no images in the folders of {str(root)!r}; expected files that end with {', '.join(SUFFIXES)}")

  def __len__(self) -> int:
    return len(self.files)

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return str(self.files[i][0])

  def read(self, i: int) -> tuple[bytes, int]:
    """See ImageSource.read."""
    path, label = self.files[i]
    return path.read_bytes(), label

  def reader(self, tf: ModuleType) -> Reader:
    """See ImageSource.reader."""
    paths = tf.constant([str(path) for path, _ in self.files])
    labels = tf.constant([label for _, label in self.files], tf.int32)
    return lambda i: (tf.io.read_file(tf.gather(paths, i)), tf.gather(labels, i))

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    lines = "".join(f"{path.relative_to(self.root)} {label}\n" for path, label in self.files)
    # "photos": checkpoints keep these words
    return f"{len(self.files)} photos, {zlib.crc32(lines.encode()):08x}"


def _folder_owners(folders: Sequence[Sequence[str]]) -> dict[str, set[int]]:
  """Labels by folder name; a class's first name takes precedence over the alternative names of other classes."""
  owners = {names[0]: {i} for i, names in enumerate(folders)}
  first = {names[0] for names in folders}
  for i, names in enumerate(folders):
    for name in names[1:]:
      if name not in first:
        owners.setdefault(name, set()).add(i)
  return owners


def _is_image(path: pathlib.Path) -> bool:
  return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def open_split(
  root: PathLike, name: str, classes: Sequence[str], folders: Sequence[Sequence[str]], others: Sequence[str] = ()
) -> Any:
  """Opens a split: the subfolder of that name in `root`, or all class folders in `root`.

  Args:
    root: a folder that holds one folder per split, or is itself a parent of class folders.
    name: the subfolder, or "all" for the class folders in `root`; a slice may follow, as TFDS writes it: "all[:90%]", of the
      images in a random order that is always the same.
    classes, folders, others: see Folder.

  Returns:
    An ImageSource.

  Raises:
    UsageError: see Folder; and for a slice that is invalid or empty.
  """
  name, part = parse_split(name)
  return take_slice(Folder(split_folder(root, name), classes, folders, others), part, f"{name!r} in {str(root)!r}")


def split_folder(root: PathLike, name: str) -> pathlib.Path:
  """Returns the folder that holds the class folders of a split; raises UsageError with the existing ones if it is missing."""
  root = pathlib.Path(root)
  if name == "all":
    return root
  # folders call val what TFDS calls validation
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


def class_folders(root: PathLike) -> list[pathlib.Path]:
  """Returns the folders in a folder, sorted by name, without hidden ones."""
  return sorted(p for p in pathlib.Path(root).iterdir() if p.is_dir() and not p.name.startswith("."))


def folder_names(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
  """Returns the accepted folder names of classes: the name itself, or with underscores for slashes or spaces."""
  return tuple(tuple(dict.fromkeys((name, name.replace("/", "_"), name.replace(" ", "_")))) for name in names)
