"""Setup of a training: everything that all of its processes must have in common."""

import hashlib
import importlib.metadata
import pathlib
import platform
from typing import Any

import jax
from ml_collections import ConfigDict

import mnv3_jax
from mnv3_jax.runs.directory import flat

# packages whose versions change the numbers
PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax")


def settings(config: ConfigDict) -> dict[str, Any]:
  """Returns the config, the versions, the source code and the devices of this process, as JSON values by name."""
  return {
    **dict(flat(config.to_dict())),
    "Python": platform.python_version(),
    **{name: importlib.metadata.version(name) for name in PACKAGES},
    "mnv3_jax": f"{mnv3_jax.__version__}, source {_source_digest()}",
    "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
  }


def _source_digest() -> str:
  """Digest of the package's source files: a changed copy has the same version."""
  root, digest = pathlib.Path(mnv3_jax.__file__).parent, hashlib.sha256()
  for file in sorted(root.rglob("*.py")):
    digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
  return digest.hexdigest()[:12]
