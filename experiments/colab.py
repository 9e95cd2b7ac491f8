"""The notebook's installation where the package is not there: the core, beside the JAX that a Colab has for its GPU or TPU."""

import importlib
import pathlib
import subprocess
import sys
import tempfile
from importlib import metadata

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent

# what makes JAX anew for the same device, where the one that is there is too old
EXTRAS = {"libtpu": "[tpu]", "jax-cuda13-plugin": "[cuda13]", "jax-cuda12-plugin": "[cuda12]"}

# modules that a session may have loaded before, and their packages
LOADED = {"jax": "jax", "matplotlib": "matplotlib", "numpy": "numpy", "PIL": "pillow"}


def install():
  """Installs this checkout's core under requirements.txt as constraints, and lets this process import it.

  JAX and its plugins keep their versions; only where the project cannot use them are they installed anew, for the same device.

  Raises:
    RuntimeError: with pip's words if it fails, or if an older version of what was installed is loaded already.
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


def _installed():
  """(name, version) of every package."""
  return [(d.name.lower().replace("_", "-"), d.version) for d in metadata.distributions()]


def _pip(constraints, *packages):
  """What pip has to say where it fails to install this checkout and other packages, or ""."""
  with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write("\n".join(constraints))
    file.flush()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", file.name, "--editable", str(CHECKOUT)]
    done = subprocess.run([*command, *packages], capture_output=True, text=True)
  return (done.stderr or "pip failed") if done.returncode else ""
