"""Architecture search: NetAdapt within a trained network, platform-aware search of MnasNet's space, and supernets."""

import importlib as _importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from mnv3_jax.search.run import netadapt as netadapt
  from mnv3_jax.search.run_platform_aware import platform_aware as platform_aware
  from mnv3_jax.search.run_supernet import search_supernet as search_supernet, train_supernet as train_supernet
  from mnv3_jax.search.space import SearchSpace as SearchSpace, Stage as Stage, mnasnet_space as mnasnet_space

__all__ = ["SearchSpace", "Stage", "mnasnet_space", "netadapt", "platform_aware", "search_supernet", "train_supernet"]

# public names and the modules that define them
_PUBLIC = {
  "SearchSpace": "space",
  "Stage": "space",
  "mnasnet_space": "space",
  "netadapt": "run",
  "platform_aware": "run_platform_aware",
  "search_supernet": "run_supernet",
  "train_supernet": "run_supernet",
}


def __getattr__(name: str) -> object:
  if name not in _PUBLIC:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(_importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
