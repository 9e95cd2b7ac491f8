"""Class folders on disk: which folders and files count, and which class a folder belongs to."""

import os
import pathlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.image_suffixes import SYSTEM_FILES
from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike

# folders that archives, file servers and operating systems leave beside those of the classes
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "__pycache__")
# names of one split, the one that is looked for first leading
SPLITS = (
  ("train", "training"),
  ("validation", "val", "valid", "dev", "eval", "evaluation"),
  ("test", "testing"),
)


def class_folders(root: PathLike, known: Collection[str] = ()) -> list[pathlib.Path]:
  """Returns the folders in a folder, sorted by name, without hidden ones and SYSTEM_FOLDERS that are not `known`."""
  return sorted(
    p
    for p in pathlib.Path(root).iterdir()
    if p.is_dir() and not p.name.startswith(".") and (p.name not in SYSTEM_FOLDERS or p.name in known)
  )


def files_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns every file below a folder, sorted by path: links are followed, hidden and system files are not listed.

  A link to a folder that is being listed already, or that is above, is not followed.
  """
  above = {_identity(parent) for parent in folder.resolve().parents}
  return sorted(_walk(folder, above))


def _walk(folder: pathlib.Path, above: set[tuple[int, int]]) -> Iterator[pathlib.Path]:
  here = _identity(folder)
  if here in above:
    return
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
        continue
      if entry.is_dir():
        if entry.name not in SYSTEM_FOLDERS:
          yield from _walk(pathlib.Path(entry.path), above | {here})
      # a link to nothing counts: reading it names it
      elif entry.is_file() or entry.is_symlink():
        yield pathlib.Path(entry.path)


def _identity(folder: pathlib.Path) -> tuple[int, int]:
  status = folder.stat()
  return status.st_dev, status.st_ino


def folder_names(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
  """Returns the accepted folder names of classes: the name itself, or with underscores for slashes or spaces."""
  return tuple(tuple(dict.fromkeys((name, name.replace("/", "_"), name.replace(" ", "_")))) for name in names)


class FolderOwners:
  """Classes by folder name: by the very name, else in another Unicode form, else in another case.

  Args:
    folders: accepted names of the classes' folders, by label; a class's first name takes precedence over the alternative names
      of other classes.
  """

  def __init__(self, folders: Sequence[Sequence[str]]) -> None:
    self.names = {name for names in folders for name in names}
    self.tables = [(form, _owners(folders, form)) for form in (str, composed, folded)]

  def labels(self, name: str) -> set[int]:
    """Returns the labels that a folder of this name may have; none for the folder of no class."""
    return next((owners[form(name)] for form, owners in self.tables if form(name) in owners), set())


def composed(name: str) -> str:
  """Returns a name in Unicode's composed form; file systems of macOS decompose."""
  return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
  """Returns a name without case."""
  return composed(name).casefold()


def _owners(folders: Sequence[Sequence[str]], form: Callable[[str], str]) -> dict[str, set[int]]:
  owners: dict[str, set[int]] = {}
  for i, names in enumerate(folders):
    owners.setdefault(form(names[0]), set()).add(i)
  first = set(owners)
  for i, names in enumerate(folders):
    for name in map(form, names[1:]):
      if name not in first:
        owners.setdefault(name, set()).add(i)
  return owners


def split_folder(root: PathLike, name: str) -> pathlib.Path:
  """Returns the folder that holds the class folders of a split.

  Args:
    root: has one folder per split, or is itself a parent of class folders.
    name: a folder in `root`, also in another case or under another name of that split (SPLITS); "all" for `root` itself.

  Raises:
    UsageError: with the existing folders and the nearest, if it is missing; or for "all" if `root` has splits, not classes.
  """
  root = pathlib.Path(root)
  there = {p.name: p for p in class_folders(root)} if os.path.isdir(root) else {}
  if name == "all" and os.path.isdir(root):
    _check_no_splits(root, there)
    return root
  # unlike Path.is_dir, it takes names that no file system has
  if os.path.isdir(root / name):
    return root / name
  for alias in (name, *other_names(name)):
    for folder in sorted(there):
      if folder.casefold() == alias.casefold():
        return there[folder]
  raise UsageError(
    f"no folder {str(root / name)!r}; "
    + _nearest_split(name, there)
    + "a split is a folder in config.data.dir with one folder per class in it, or all, or a "
    "slice such as all[:90%], of the class folders in config.data.dir itself"
    + (f"; there: {', '.join(sorted(there)[:8])}" if there else "")
  )


def other_names(name: str) -> tuple[str, ...]:
  """Returns the other names of a split; () for a name of no split."""
  return next((tuple(n for n in names if n != name.casefold()) for names in SPLITS if name.casefold() in names), ())


def _is_split(name: str) -> bool:
  return any(name.casefold() in names for names in SPLITS)


def _nearest_split(name: str, there: Iterable[str]) -> str:
  """Returns advice to take another split than `name` that is there; "" where none is near."""
  training = name.casefold() in SPLITS[0]
  # one for evaluation is nearest to another one for evaluation
  near = [n for n in sorted(there) if _is_split(n) and (n.casefold() in SPLITS[0]) == training] if _is_split(name) else []
  advice = f"did you mean {near[0]!r}?" if near else nearest(name, list(there))
  return f"{advice} " if advice.startswith("did") else ""


def _check_no_splits(root: pathlib.Path, there: dict[str, pathlib.Path]) -> None:
  """Raises UsageError where the folders in `root` are splits: there are no others, or several that have folders only."""
  splits = [name for name in there if _is_split(name)]
  nested = sum(_has_folders_only(there[name]) for name in splits)
  if nested > 1 or (len(splits) == len(there) and (nested or len(splits) > 1)):
    names = " and ".join(repr(name) for name in splits)
    one = next((name for name in splits if name.casefold() in SPLITS[0]), splits[0])
    raise UsageError(
      f"{str(root)!r} has the splits {names} in it, which are no classes: expected a split such as {one!r}, or a slice of "
      f"it such as '{one}[:80%]', in the place of 'all'"
    )


def _has_folders_only(folder: pathlib.Path) -> bool:
  inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
  return any(p.is_dir() for p in inside) and not any(p.is_file() and p.name.lower() not in SYSTEM_FILES for p in inside)
