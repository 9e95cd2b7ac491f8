"""Installation for the notebook on Colab: the core dependencies, beside the JAX that Colab has for its GPU or TPU."""

import importlib
import pathlib
import subprocess
import sys
import tempfile
from importlib import metadata

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

# extras that install JAX for the same device, where the installed one is too old
EXTRAS = {"libtpu": "[tpu]", "jax-cuda13-plugin": "[cuda13]", "jax-cuda12-plugin": "[cuda12]"}

# modules that a session may have imported before, and their packages
LOADED = {"jax": "jax", "matplotlib": "matplotlib", "numpy": "numpy", "PIL": "pillow"}


def install() -> None:
  """Installs this checkout with requirements.txt as constraints, and makes it importable in this process.

  JAX and its plugins keep their versions; they are replaced, for the same device, only where the package cannot use them.

  Raises:
    RuntimeError: with the output of pip if it fails, or if an older version of an installed package is imported already.
  """
  pins = (CHECKOUT / "requirements.txt").read_text().splitlines()
  there = {name: version for name, version in _installed() if name.startswith(("jax", "libtpu"))}
  kept = [line for line in pins if not line.startswith("jax")] + [f"{name}=={version}" for name, version in there.items()]
  if _pip(kept):
    device = next((extra for plugin, extra in EXTRAS.items() if plugin in there), "")
    failed = _pip(pins, f"jax{device}")
    if failed:
      raise RuntimeError(failed)
  importlib.invalidate_caches()
  for module, package in LOADED.items():
    loaded = getattr(sys.modules.get(module), "__version__", None)
    if loaded and loaded != metadata.version(package):
      raise RuntimeError(f"{package} {loaded} is loaded and another one installed now: restart the session and run all again")
  sys.path.insert(0, str(CHECKOUT))


def _installed() -> list[tuple[str, str]]:
  """Returns (name, version) of every package."""
  return [(d.name.lower().replace("_", "-"), d.version) for d in metadata.distributions()]


def _pip(constraints: list[str], *packages: str) -> str:
  """Installs this checkout and other packages; returns the errors of pip, or ""."""
  with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write("\n".join(constraints))
    file.flush()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", file.name, "--editable", str(CHECKOUT)]
    done = subprocess.run([*command, *packages], capture_output=True, text=True)
  return (done.stderr or "pip failed") if done.returncode else ""
