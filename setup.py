"""Package contents besides pyproject.toml: shared files of a wheel, and the description on PyPI.

configs/ and the tables of experiments/, at the top of a checkout, become mnv3_jax/configs/ and mnv3_jax/experiments/ of a
wheel; mnv3_jax/resources.py finds them in either place. The description is the README with absolute links.
"""

import pathlib
import re

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent
REPOSITORY = "mnv3-jax/mnv3_jax"


def shared_files():
  """Returns the files, relative to the top: every config, and the experiments that define a table."""
  files = [*(ROOT / "configs").glob("*.py"), *(ROOT / "experiments").glob("*.py")]
  tables = re.compile(r"^TABLE = ", re.MULTILINE)
  return sorted(str(f.relative_to(ROOT)) for f in files if f.parent.name == "configs" or tables.search(f.read_text("utf-8")))


def description():
  """Returns the README whose relative links, which PyPI cannot follow, name the files of this version on GitHub."""
  version = re.search(r'^__version__ = "(.*)"$', (ROOT / "mnv3_jax" / "__init__.py").read_text("utf-8"), re.MULTILINE)[1]
  files = f"https://github.com/{REPOSITORY}/blob/v{version}/"
  images = f"https://raw.githubusercontent.com/{REPOSITORY}/v{version}/"

  def absolute(link):
    return f"{link[1]}({images if link[1].startswith('!') else files}{link[2]})"

  return re.sub(r"(!?\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)", absolute, (ROOT / "README.md").read_text("utf-8"))


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

  def get_outputs(self, include_bytecode=True):
    own = super().get_outputs(include_bytecode)
    return own if self.editable_mode else [*own, *(str(pathlib.Path(self.build_lib) / "mnv3_jax" / f) for f in shared_files())]


setup(
  cmdclass={"build_py": BuildWithSharedFiles},
  long_description=description(),
  long_description_content_type="text/markdown",
)
