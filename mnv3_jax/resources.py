"""Files that come with the package but are edited at the top of a checkout: configs/ and the tables of experiments/."""

import pathlib


def folder(name: str) -> pathlib.Path:
  """Returns the directory `name` ("configs" or "experiments"): inside the package of a wheel, else beside the package.

  A wheel has a copy of each (setup.py); a checkout, and so an editable install, has only the one that people edit.
  """
  package = pathlib.Path(__file__).parent
  inside = package / name
  return inside if inside.is_dir() else package.parent / name


def files(name: str) -> dict[str, pathlib.Path]:
  """Returns the Python files of `folder(name)` by name without suffix, sorted."""
  return {file.stem: file for file in sorted(folder(name).glob("*.py"))}
