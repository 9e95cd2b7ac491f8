"""Distributions: a wheel holds all that users need, a source distribution every file of the repository."""

import email
import os
import pathlib
import re
import site
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import CACHE, ROOT

pytestmark = pytest.mark.slow

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


BUILD_SDIST = "from setuptools import build_meta; build_meta.build_sdist('..')"


def tracked():
  """Returns the names of the files that a clone has, uncommitted changes included."""
  words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
  return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A copy of the files that a clone has: a checkout may have an old build/ beside them."""
  folder = tmp_path_factory.mktemp("distributions") / "source"
  for name in tracked():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((ROOT / name).read_bytes())
  return folder


def build_wheel(source, folder):
  """Builds the wheel of a tree or a source distribution into a folder."""
  words = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
  built = subprocess.run(words, capture_output=True, text=True)
  assert built.returncode == 0, built.stderr
  (wheel,) = folder.glob("*.whl")
  return wheel


@pytest.fixture(scope="module")
def sdist(source):
  """The source distribution of this tree."""
  subprocess.run([sys.executable, "-c", BUILD_SDIST], cwd=source, check=True, capture_output=True)
  (archive,) = source.parent.glob("*.tar.gz")
  return archive


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
  """The wheel of this tree."""
  return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_its_files(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {pathlib.PurePath(n).name for n in names if n.startswith("mnv3_jax/configs/")} == {
    f.name for f in (ROOT / "configs").glob("*.py")
  }
  tables = {pathlib.PurePath(n).name for n in names if n.startswith("mnv3_jax/experiments/")}
  assert {"table5.py", "figure1.py"} <= tables and "demo.py" not in tables
  assert {"mnv3_jax/py.typed", "mnv3_jax/data/embedded/fashion_mnist_12k.npz"} <= set(names)
  assert {n.split("/")[0] for n in names if not n.startswith("mnv3_jax-")} == {"mnv3_jax"}
  licenses = {n.split("/licenses/")[1] for n in names if "/licenses/" in n}
  assert licenses == {"LICENSE", "mnv3_jax/data/embedded/LICENSE"}


def test_a_source_distribution_has_every_file_and_gives_the_same_wheel(source, sdist, wheel, tmp_path):
  with tarfile.open(sdist) as archive:
    files = {
      name.partition("/")[2]: archive.extractfile(name).read()
      for name in archive.getnames()
      if archive.getmember(name).isfile()
    }
  added = {"PKG-INFO", "setup.cfg"} | {name for name in files if name.startswith("mnv3_jax.egg-info/")}
  assert set(files) - added == set(tracked())
  assert all(files[name] == (source / name).read_bytes() for name in set(files) - added)
  again = zipfile.ZipFile(build_wheel(sdist, tmp_path))
  assert {i.filename: i.CRC for i in again.infolist()} == {i.filename: i.CRC for i in zipfile.ZipFile(wheel).infolist()}


def test_the_description_is_the_readme_with_links_that_work_elsewhere(wheel):
  metadata = zipfile.ZipFile(wheel).read(f"{wheel.name.rsplit('-', 3)[0]}.dist-info/METADATA").decode()
  message = email.message_from_string(metadata)
  text, version = message.get_payload(), message["Version"]
  assert message["Description-Content-Type"] == "text/markdown"
  links = re.findall(r"\]\(([^)\s]+)\)", text)
  assert len(links) > 20 and all(link.startswith("https://") for link in links)
  own = re.compile(rf"https://(?:github\.com/mnv3-jax/mnv3_jax/blob|raw\.githubusercontent\.com/mnv3-jax/mnv3_jax)/v{version}/")
  named = [own.sub("", link).partition("#")[0] for link in links if own.match(link)]
  assert len(named) > 20 and all((ROOT / name).is_file() for name in named)
  assert own.sub("", text).rstrip() == (ROOT / "README.md").read_text().rstrip()


def test_everything_works_without_a_checkout(wheel, tmp_path):
  place, empty = tmp_path / "site", tmp_path / "empty"
  subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(place), str(wheel)], check=True)
  empty.mkdir()
  # the environment's packages but its editable install: .pth files count in site directories alone, and these are none then
  paths = [str(place), *site.getsitepackages()]
  env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
  env |= {"PYTHONPATH": os.pathsep.join(paths), "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
  words = [sys.executable, "-S", "-P", "-W", "error", str(ROOT / "tests" / "use_package.py")]
  done = subprocess.run(words, cwd=empty, env=env, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stdout + done.stderr
  assert done.stdout.endswith("all of it works\n") and done.stderr == ""
  files = ["small.tflite", "small.tflite.json"]
  assert sorted(p.name for p in empty.iterdir()) == ["black.png", "int8.tflite", "int8.tflite.json", "run", *files]
