"""Architecture search: NetAdapt within a trained network, platform-aware search of MnasNet's space, and supernets."""

import importlib as _importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from mnv3_jax.search.run import netadapt as netadapt
  from mnv3_jax.search.run_platform_aware import platform_aware as platform_aware
  from mnv3_jax.search.run_supernet import search_supernet as search_supernet, train_supernet as train_supernet
  from mnv3_jax.subnetworks.space import SearchSpace as SearchSpace, Stage as Stage, mnasnet_space as mnasnet_space

__all__ = ["SearchSpace", "Stage", "mnasnet_space", "netadapt", "platform_aware", "search_supernet", "train_supernet"]

# public names and the modules that define them
_PUBLIC = {
  "SearchSpace": "mnv3_jax.subnetworks.space",
  "Stage": "mnv3_jax.subnetworks.space",
  "mnasnet_space": "mnv3_jax.subnetworks.space",
  "netadapt": "mnv3_jax.search.run",
  "platform_aware": "mnv3_jax.search.run_platform_aware",
  "search_supernet": "mnv3_jax.search.run_supernet",
  "train_supernet": "mnv3_jax.search.run_supernet",
}


def __getattr__(name: str) -> object:
  if name not in _PUBLIC:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(_importlib.import_module(_PUBLIC[name]), name)
