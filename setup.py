"""Wheel contents besides pyproject.toml: configs/ and the tables of experiments/, which a checkout has at its top.

They become mnv3_jax/configs/ and mnv3_jax/experiments/ of a wheel; mnv3_jax/resources.py finds them in either place.
"""

import pathlib
import re

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent


def shared_files():
  """Returns the files, relative to the top: every config, and the experiments that define a table."""
  files = [*(ROOT / "configs").glob("*.py"), *(ROOT / "experiments").glob("*.py")]
  tables = re.compile(r"^TABLE = ", re.MULTILINE)
  return sorted(str(f.relative_to(ROOT)) for f in files if f.parent.name == "configs" or tables.search(f.read_text("utf-8")))


class BuildWithSharedFiles(build_py):
  """build_py that adds the shared files, unless the install is editable."""

  def run(self):
    super().run()
    if self.editable_mode:
      return
    for file in shared_files():
      target = pathlib.Path(self.build_lib) / "mnv3_jax" / file
      target.parent.mkdir(parents=True, exist_ok=True)
      self.copy_file(str(ROOT / file), str(target))

  def get_source_files(self):
    """Adds them to source distributions, from which wheels are built too."""
    return [*super().get_source_files(), *shared_files()]

  def get_outputs(self, include_bytecode=True):
    own = super().get_outputs(include_bytecode)
    return own if self.editable_mode else [*own, *(str(pathlib.Path(self.build_lib) / "mnv3_jax" / f) for f in shared_files())]


setup(cmdclass={"build_py": BuildWithSharedFiles})
