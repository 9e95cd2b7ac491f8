"""Folders and lists of images of Pascal VOC's layout."""

import os
import pathlib
from collections.abc import Sequence

from mnv3_jax.data.sources.class_folders import other_names
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import read_bounded

# of a list of a million images
MAX_LIST_BYTES = 2**26


def by_stem(folder: pathlib.Path, suffixes: Sequence[str]) -> dict[str, pathlib.Path]:
  """Returns the files with one of some suffixes, in any case, by stem; of several, the one of the first suffix."""
  rank = {suffix: i for i, suffix in enumerate(suffixes)}
  paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in rank)
  return {p.stem: p for p in sorted(paths, key=lambda p: -rank[p.suffix.lower()])}


def find_year(root: pathlib.Path, folders: Sequence[str], expected: str) -> pathlib.Path:
  """Returns the folder that has all of `folders` in it: `root`, or the only one with the first of them inside it.

  Args:
    root: config.data.dir.
    folders: names of folders, that of the images first.
    expected: content of config.data.dir, for messages.

  Raises:
    UsageError: if there is none, or several.
  """
  if not root.is_dir():
    raise UsageError(f"no folder {str(root)!r}; config.data.dir has {expected}")
  images, *others = folders
  if (root / images).is_dir():
    found = [root]
  else:
    found = sorted(p.parent for pattern in (f"*/{images}", f"VOCdevkit/*/{images}") for p in root.glob(pattern))
  if len(found) > 1:
    raise UsageError(f"{str(root)!r} has several data sets in it; expected one of {', '.join(repr(str(p)) for p in found[:8])}")
  missing = next((found[0] / name for name in others if not (found[0] / name).is_dir()), None) if found else root / images
  if missing:
    raise UsageError(f"no folder {str(missing)!r}; config.data.dir has {expected}")
  return found[0]


def read_list(folder: pathlib.Path, split: str) -> tuple[pathlib.Path, list[str]]:
  """Reads the list of a split, also under another name of it: (path, names of images)."""
  lists = [folder / f"{name}.txt" for name in (split, *other_names(split))]
  path = next((p for p in lists if os.path.isfile(p)), lists[0])
  try:
    # names of files in another encoding are read as the operating system's
    lines = read_bounded(path, MAX_LIST_BYTES).decode("utf-8-sig", "surrogateescape").splitlines()
  except (OSError, ValueError):
    there = sorted(p.stem for p in folder.glob("*.txt"))
    raise UsageError(
      f"no list {str(path)!r} of the images of split {split!r}"
      + (f"; there: {', '.join(there[:8])}" if there else "; expected an image's name without .jpg in every line")
    ) from None
  names = [line.strip() for line in lines if line.strip()]
  if any("\0" in name for name in names):
    raise UsageError(f"{str(path)!r} is not text; expected an image's name without .jpg in every line")
  if not names:
    raise UsageError(f"{str(path)!r} lists no image")
  twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
  if twice:
    raise UsageError(f"{str(path)!r} lists {twice!r} twice")
  return path, names
