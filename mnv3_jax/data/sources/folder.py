"""Images in one folder per class: ROOT/CLASS/IMAGE.jpg."""

import concurrent.futures
import functools
import os
import pathlib
import zlib
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.base import Reader
from mnv3_jax.data.sources.class_folders import FolderOwners, class_folders, files_in, split_folder
from mnv3_jax.data.sources.image_suffixes import describe, image_suffixes, suffix_counts
from mnv3_jax.data.sources.splits import base_source, parse_split, take_slice
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.paths import check_file, read_bounded
from mnv3_jax.types import PathLike

# files whose sizes are asked for at a time: waiting for a network takes no processor
STATS = 16


class Folder:
  """Source of the image files in class folders, in the order of their names.

  Args:
    root: parent of the class folders.
    classes: names by label.
    folders: accepted names of the classes' folders, by label.
    others: names of folders to skip; any other folder is an error.

  Attributes:
    files: [(path, label)].
    skipped: names of the folders that belong to no class.
    passed_over: numbers of other files in the classes' folders, by suffix.
    loose: number of images outside the classes' folders.

  Raises:
    UsageError: naming the missing folder, or the folder that belongs to no class, or if there are no images.
  """

  def __init__(
    self, root: PathLike, classes: Sequence[str], folders: Sequence[Sequence[str]], others: Collection[str] = ()
  ) -> None:
    root = pathlib.Path(root)
    if not root.is_dir():
      raise UsageError(f"no folder {str(root)!r}; expected a folder that holds one folder of images per class")
    if not classes:
      raise UsageError(
        "the classes of these weights have no names, by which folders are found; import --classes FILE gives them names"
      )
    owners = FolderOwners(folders)
    self.root, self.classes = root, tuple(classes)
    self.files: list[tuple[pathlib.Path, int]] = []
    self.skipped: list[str] = []
    suffixes: list[str] = []
    for folder in class_folders(root, owners.names):
      labels = owners.labels(folder.name)
      if len(labels) > 1:
        names = " and ".join(repr(classes[i]) for i in sorted(labels))
        raise UsageError(f"{str(folder)!r} may be the folder of {names}; expected the whole name of one of them")
      if labels:
        (label,) = labels
        there = files_in(folder)
        self.files += [(p, label) for p in there if _is_image(p)]
        suffixes += [p.suffix for p in there if not _is_image(p)]
      elif folder.name in others:
        self.skipped.append(folder.name)
      else:
        raise UsageError(f"{str(folder)!r} is the folder of no class of this network; {nearest(folder.name, owners.names)}")
    self.passed_over = suffix_counts(suffixes)
    self.loose = sum(_is_image(p) for p in root.iterdir() if p.is_file() and not p.name.startswith("."))
    if not self.files:
      also = f"; passed over: {describe(self.passed_over)}" if self.passed_over else ""
      raise UsageError(
        f"no images in the folders of {str(root)!r}; expected files that end with {', '.join(image_suffixes()[:7])}, ...{also}"
      )

  def __len__(self) -> int:
    return len(self.files)

  @property
  def labels(self) -> list[int]:
    """Labels of the images."""
    return [label for _, label in self.files]

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return str(self.files[i][0])

  def read(self, i: int) -> tuple[bytes, int]:
    """See ImageSource.read."""
    path, label = self.files[i]
    return read_bounded(path), label

  def reader(self, tf: ModuleType) -> Reader:
    """See ImageSource.reader."""
    # names in another encoding than UTF-8 are text with surrogates, which only the operating system's encoding undoes
    paths = tf.constant(_within_limit([os.fsencode(path) for path, _ in self.files]))
    labels = tf.constant(self.labels, tf.int32)
    return lambda i: (tf.io.read_file(tf.gather(paths, i)), tf.gather(labels, i))

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    lines = "".join(f"{path.relative_to(self.root)} {label}\n" for path, label in self.files)
    # "photos": checkpoints keep these words
    return f"{len(self.files)} photos, {zlib.crc32(lines.encode('utf-8', 'surrogateescape')):08x}"

  @property
  def warnings(self) -> list[str]:
    """Sentences about files that are not used."""
    found, where = [], repr(str(self.root))
    if self.passed_over:
      n = sum(self.passed_over.values())
      found.append(f"{counted(n, 'file')} in the class folders of {where} passed over: {describe(self.passed_over)}")
    inner = sorted({parts[1] for path, _ in self.files if len(parts := path.relative_to(self.root).parts) > 2})
    if len(self.classes) == 1 and len(inner) > 1:
      names = ", ".join(map(repr, inner[:3])) + (", ..." if len(inner) > 3 else "")
      found.append(f"the only class folder of {where} has folders in it that are no classes: {names}")
    if self.loose:
      found.append(f"{counted(self.loose, 'image')} directly in {where} passed over: in no class folder")
    if self.skipped:
      names = ", ".join(repr(name) for name in self.skipped[:5]) + (", ..." if len(self.skipped) > 5 else "")
      found.append(
        f"{counted(len(self.skipped), 'folder')} in {where} left out, of none of the {len(self.classes)} classes: {names}"
      )
    return found


def _within_limit(paths: list[bytes]) -> list[bytes]:
  """Returns paths with that of an empty file for those that `read` refuses: TensorFlow would read files of any size whole."""
  empty = os.fsencode(os.devnull)

  def check(part: list[bytes]) -> list[bytes]:
    return [path if _is_within_limit(path) else empty for path in part]

  with concurrent.futures.ThreadPoolExecutor(STATS) as pool:
    parts = pool.map(check, (paths[i::STATS] for i in range(STATS)))
    found = list(paths)
    for i, part in enumerate(parts):
      found[i::STATS] = part
  return found


def _is_within_limit(path: bytes) -> bool:
  try:
    check_file(path)
  except OSError:
    return False
  return True


def _is_image(path: pathlib.Path) -> bool:
  return path.suffix.lower() in image_suffixes()


def open_split(
  root: PathLike, name: str, classes: Sequence[str], folders: Sequence[Sequence[str]], others: Collection[str] = ()
) -> Any:
  """Opens a split: the subfolder of that name in `root`, or all class folders in `root`.

  Args:
    root: a folder that holds one folder per split, or is itself a parent of class folders.
    name: see class_folders.split_folder; a slice may follow, as TFDS writes it: "all[:90%]", of the images in a random order
      that is always the same.
    classes, folders, others: see Folder.

  Returns:
    An ImageSource.

  Raises:
    UsageError: see Folder; and for a slice that is invalid or empty.
  """
  name, part = parse_split(name)
  return take_slice(Folder(split_folder(root, name), classes, folders, others), part, f"{name!r} in {str(root)!r}")


def check_every_class(source: Any, folders: Sequence[Sequence[str]]) -> None:
  """Raises UsageError where a class has no image, naming its folder.

  Args:
    source: result of open_split; all of its images count, also those outside its slice.
    folders: as for open_split.
  """
  whole: Folder = base_source(source)
  classes, present = whole.classes, set(whole.labels)
  empty = [i for i in range(len(classes)) if i not in present]
  if not empty:
    return
  owners, name = FolderOwners(folders), classes[empty[0]]
  there = class_folders(whole.root, owners.names)
  own = next((p for p in there if empty[0] in owners.labels(p.name)), None)
  more = f" (nor have {len(empty) - 1} more)" if len(empty) > 1 else ""
  if own is None:
    left = [p.name for p in there if not owners.labels(p.name)]
    advice = nearest(name, left) if left else f"expected {str(whole.root / folders[empty[0]][0])!r}"
    raise UsageError(f"the class {name!r} has no folder in {str(whole.root)!r}{more}; {advice}")
  found = suffix_counts(p.suffix for p in files_in(own))
  raise UsageError(
    f"the class folder {str(own)!r} has no image{more}: it {'has ' + describe(found) if found else 'is empty'}; a class "
    "without images cannot be learned: remove the folder, or name the other classes in config.data.classes"
  )
